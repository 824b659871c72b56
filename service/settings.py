"""Every setting and every limit of the service, read once into one typed object.

A field is the setting `ELBOUND_` + its name in capitals and the flag `--its-name` or the one given: none is a secret,
those stand in files that a setting names. The unit is part of the name. `docs/operations.md` has the same table, and a
test compares them.
"""

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Literal, TypeVar, get_type_hints

from elbound.errors import ConfigError

PREFIX = "ELBOUND_"
SWITCH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}
T = TypeVar("T")


def _setting(default: T, text: str, *, low: float | None = None, high: float | None = None, flag: str = "") -> T:
    made: T = field(default=default, metadata={"help": text, "low": low, "high": high, "flag": flag})
    return made


@dataclass(frozen=True)
class Settings:
    """Defaults suit a server of one or two models behind a proxy."""

    host: str = _setting("127.0.0.1", "Address to listen on; 0.0.0.0 for every interface.")
    port: int = _setting(8000, "Port to listen on; 0 takes a free one.", low=0)
    device: str = _setting("auto", "auto, cpu or cuda.")
    api_keys_file: str = _setting(
        "", "File of the digests of the keys that callers send; without one only this machine is served."
    )
    insecure: bool = _setting(False, "Serve everybody who reaches the port where there are no keys.")
    open_metrics: bool = _setting(False, "Answer /metrics without a key.")
    models: str = _setting(
        "",
        "Folder, s3://, gs:// or az:// of NAME/VERSION/ bundles whose newest or pinned versions are served.",
    )
    store_poll_s: int = _setting(5, "How often that store is looked at.", low=1)
    load_timeout_s: int = _setting(
        120, "Longest that loading one version of that store may take; beyond, it is refused.", low=1
    )
    max_shadow_bytes: int = _setting(
        64 << 20, "Bytes of items that may wait for a model's shadow; beyond, it passes them over.", low=0
    )
    tls_cert_file: str = _setting(
        "", "Certificate chain in PEM, to answer over TLS; plain HTTP when empty.", flag="--tls-cert"
    )
    tls_key_file: str = _setting("", "Private key in PEM of that certificate, without a password.", flag="--tls-key")
    require_signature: bool = _setting(False, "Serve only bundles that one of the trusted keys has signed.")
    trusted_keys_file: str = _setting(
        "", "Public Ed25519 keys in PEM, one or several, of those who may sign bundles.", flag="--trusted-keys"
    )
    cache_dir: str = _setting("", "Folder for bundles that were fetched from elsewhere; ~/.cache/elbound when empty.")
    max_bundle_bytes: int = _setting(
        1 << 30,
        "Largest bundle that is fetched or loaded, and most memory that its detector, or one item in it, may need.",
        low=1,
    )
    download_timeout_s: int = _setting(600, "Longest that fetching one bundle may take.", low=1)
    max_connections: int = _setting(1_024, "Connections that may be open; beyond, 503.", low=1)
    idle_timeout_s: int = _setting(
        10, "How long a connection may say nothing before its first request and between two.", low=1
    )
    header_timeout_s: int = _setting(10, "How long a request line and its headers may take; beyond, 408.", low=1)
    max_url_bytes: int = _setting(8_192, "Longest target of a request, path and query; beyond, 414.", low=1)
    max_header_bytes: int = _setting(
        32_768, "Most bytes of a request line and its headers together; beyond, 431.", low=1
    )
    max_headers: int = _setting(100, "Most headers of a request; beyond, 431.", low=1)
    body_idle_timeout_s: int = _setting(
        10, "How long a body may pause, and the time over which its rate is taken; beyond, 408.", low=1
    )
    min_body_bytes_per_s: int = _setting(500, "Least rate of a body while it is read; below, 408.", low=1)
    answer_idle_timeout_s: int = _setting(
        60,
        "How long an answer may wait while the caller reads nothing of it, and the time over which the rate of its "
        "reading is taken; then the connection is closed.",
        low=1,
    )
    min_answer_bytes_per_s: int = _setting(
        4_096, "Least rate at which an answer that waits is read; below, the connection is closed.", low=1
    )
    max_drain_bytes: int = _setting(
        128 << 20, "Most of a refused body that is read and dropped, so that the caller sees the answer.", low=0
    )
    drain_timeout_s: int = _setting(10, "Longest that a refused body is read and dropped.", low=1)
    max_body_bytes: int = _setting(64 << 20, "Largest body of a request.", low=1)
    max_expanded_bytes: int = _setting(
        512 << 20,
        "Most that a gzip, a zip or a compressed table may open to, and that JSON may take once it is parsed.",
        low=1,
    )
    max_inflight_bytes: int = _setting(
        640 << 20,
        "Memory that all requests together hold: bodies, what they open to, their items, unread answers; beyond, 503.",
        low=1 << 20,
    )
    decoders: int = _setting(
        2, "Processes that decode uploads, each with 64 MB beside that; an upload that takes more asks for it.", low=1
    )
    max_rows: int = _setting(100_000, "Most items in one upload.", low=1)
    max_stream_bytes: int = _setting(
        16 << 30, "Largest body that is scored piece by piece, as received and as opened.", low=1
    )
    max_streams: int = _setting(8, "Uploads that are scored piece by piece at once; beyond, 503.", low=1)
    max_streams_per_key: int = _setting(4, "Of these, those that one key may have; beyond, 429.", low=1)
    max_live_streams: int = _setting(32, "Readers of /live at once; beyond, 503.", low=0)
    max_held_bytes: int = _setting(
        8 << 20, "Scores of one streamed upload that wait in memory until they are read; the rest waits on disk.", low=0
    )
    spool_dir: str = _setting("", "Folder for uploads and scores set aside on disk; the system's own when empty.")
    max_spool_bytes: int = _setting(4 << 30, "Most that all requests together set aside on disk.", low=1)
    max_columns: int = _setting(4_096, "Most columns in one table.", low=1)
    max_cell_bytes: int = _setting(65_536, "Longest text in one cell of a table; beyond, that row has an error.", low=1)
    max_json_depth: int = _setting(
        32, "Most lists and objects that may stand in each other in JSON; beyond, 413, or an error of its line.", low=1
    )
    max_files: int = _setting(10_000, "Most files in a zip or a multipart form.", low=1)
    max_pixels: int = _setting(64_000_000, "Most pixels in one image, before it is resized.", low=1)
    max_total_pixels: int = _setting(1_000_000_000, "Most pixels in all images of one upload together.", low=1)
    max_explained_items: int = _setting(64, "Most items of an upload with explain=true or counterfactual=true.", low=1)
    max_counterfactual_items: int = _setting(
        8, "Most anomalies of one upload whose nearest normal is looked for, the oddest first.", low=1
    )
    nearest_items: int = _setting(
        2, "Training items that the explanation of a neighbour score shows; 0 shows none of them.", low=0
    )
    max_queue_rows: int = _setting(200_000, "Items that may wait for the device; beyond, 503.", low=1)
    max_queue_bytes: int = _setting(1 << 30, "Bytes of items that may wait for the device; beyond, 503.", low=1)
    batch_rows: int = _setting(4_096, "Most items that the device takes at once.", low=1)
    deadline_ms: int = _setting(
        30_000, "Longest that the scoring of a request may take, its wait for the device included; beyond, 504.", low=1
    )
    state_dir: str = _setting("", "Folder that keeps each model's drift over restarts; nothing is kept when empty.")
    shutdown_grace_s: int = _setting(30, "How long a stopping server finishes what it accepted.", low=0)
    log_level: Literal["debug", "info", "warning", "error"] = _setting("info", "Least severe message that is logged.")
    log_format: Literal["text", "json"] = _setting("text", "json writes each message as one object a line.")
    log_requests_percent: int = _setting(0, "Share of the requests that are logged, a line each.", low=0, high=100)

    @classmethod
    def load(cls, environ: Mapping[str, str], flags: Mapping[str, object]) -> "Settings":
        """Settings from `ELBOUND_*` variables with flags (None is not given) laid over them.

        Raises ConfigError that names the setting.
        """
        known = {one.name: one for one in fields(cls)}
        kinds = get_type_hints(cls)
        values: dict[str, object] = {}
        for name, one in known.items():
            raw = flags.get(name)
            raw = environ.get(PREFIX + name.upper()) if raw is None else raw
            if name == "port" and str(raw).startswith("tcp://"):  # what Kubernetes sets for a Service called elbound
                continue
            if raw is not None:
                values[name] = _parse(one, kinds[name], raw)
        return cls(**values)  # type: ignore[arg-type]


def _parse(one: "Field[object]", kind: object, raw: object) -> object:
    if kind is str:
        return str(raw).strip()
    if kind is bool:
        if (word := str(raw).strip().lower()) not in SWITCH:
            raise ConfigError(f"{one.name} must be one of {', '.join(SWITCH)}. Got {raw!r} instead", where=one.name)
        return SWITCH[word]
    if kind is not int:
        choices = getattr(kind, "__args__", ())
        if raw not in choices:
            raise ConfigError(f"{one.name} must be one of {', '.join(choices)}. Got {raw!r} instead", where=one.name)
        return raw
    low, high = one.metadata["low"], one.metadata["high"]
    try:
        value = int(str(raw).replace("_", ""))
    except ValueError:
        value = None
    if value is None or (low is not None and value < low) or (high is not None and value > high):
        bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ConfigError(f"{one.name} must be a whole number {bounds}. Got {raw!r} instead", where=one.name)
    return value
