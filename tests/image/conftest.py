"""The image that an engine builds from this checkout, the stand-in for its base, and what is scored in it."""

import ast
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from configparser import RawConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import httpx
import pyarrow as pa
import pytest

from supply.images import full_name, images
from tests.image.engine import Container, Engine, Image
from tests.service.conftest import write_keys
from tests.service.stores import NAME, put

Say: TypeAlias = Callable[[str], None]
Build: TypeAlias = Callable[..., Image]

ROOT = Path(__file__).parents[2]
OCI = "org.opencontainers.image"
IMAGE = "localhost/elbound-image-test"
BASE = next(f"{full_name(one.tag)}@{one.digest}" for one in images(ROOT / "Dockerfile"))
STAND_IN = "localhost/elbound-image-test-base"
CA_BUNDLE = "/run/secrets/ca_bundle"
PIP_SETTINGS = ("index-url", "extra-index-url", "find-links", "trusted-host", "proxy", "timeout", "default-timeout")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-image", action="store_true", help="build the container image and test it")


def pytest_runtest_setup(item: pytest.Item) -> None:
    # The option is unknown where this file was not there when the command line was read: plain `pytest`.
    if not item.config.getoption("--run-image", default=False):
        pytest.skip("these build and run a container image: `make image-test`")


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    name = next((name for name in ("podman", "docker") if shutil.which(name)), None)
    if name is None:
        pytest.skip("neither podman nor docker is installed")
    return Engine(name, tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Say:
    """Writes a line for people, past the capture of output."""
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")

    def write(line: str) -> None:
        reporter.ensure_newline()
        reporter.write_line(line)

    return write


@pytest.fixture(scope="session")
def base(engine: Engine, say: Say, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Python's official image or, where it cannot be had, Debian's Python in its place."""
    if engine.has(BASE) or engine.pull(BASE):
        say(f"base image: {BASE}")
        return BASE
    if not engine.has(STAND_IN):
        if not shutil.which("mmdebstrap"):
            pytest.skip(f"{BASE} cannot be pulled and mmdebstrap, which makes a stand-in, is not installed")
        make_stand_in(engine, tmp_path_factory.mktemp("base") / "base.tar")
    say(f"base image: a STAND-IN made of Debian bookworm's packages, since {BASE} cannot be pulled")
    return STAND_IN


def make_stand_in(engine: Engine, archive: Path) -> None:
    """Debian's Python under the names of the official image, without Debian's lock on pip."""
    links = "".join(f'ln -s /usr/bin/python3 "$1/usr/local/bin/{name}"; ' for name in ("python", "python3"))
    packages = "python3,python3-venv,python3-pip,ca-certificates"
    hook = f'--customize-hook={links} rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED'
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", hook, "bookworm", str(archive)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert made.returncode == 0, made.stderr[-4000:]
    engine.output("import", str(archive), STAND_IN)
    archive.unlink()


@pytest.fixture(scope="session")
def labels() -> dict[str, str]:
    """What `make image` says of a build."""
    return {"version": "1.2.3", "revision": "0" * 40, "source": "https://git.example.com/elbound"}


@pytest.fixture(scope="session")
def build(engine: Engine, base: str, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Build an image of a checkout, with what `make image` says about it as `labels`."""
    pip = pip_options(engine, tmp_path_factory.mktemp("pip") / "pip.conf")
    podman = ("--format=docker", "--isolation=chroot", "--layers") if engine.name == "podman" else ()

    def run(name: str, checkout: Path, labels: dict[str, str]) -> Image:
        told = (f"--label={OCI}.{label}={value}" for label, value in labels.items())
        options = (*podman, "--network=host", f"--build-arg=PYTHON_IMAGE={base}", *told, *pip)
        engine.output("build", *options, "-t", name, str(checkout), timeout=1500)
        return Image(engine, name)

    return run


@pytest.fixture(scope="session")
def image(build: Build, engine: Engine, labels: dict[str, str], say: Say) -> Image:
    started = time.monotonic()
    built = build(IMAGE, ROOT, labels)
    say(f"built with {engine.name} in {time.monotonic() - started:.0f} s, {built.facts['Size'] / 1e6:,.0f} MB")
    return built


def pip_options(engine: Engine, file: Path) -> list[str]:
    """Options of a build that let pip find packages as it does here: indexes, proxy, certificates, local wheels."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    found = dict(line.split("=", 1) for line in listed.stdout.splitlines())
    # The environment is listed first and wins over the files.
    values = {key.rpartition(".")[2]: str(ast.literal_eval(value)) for key, value in reversed(found.items())}
    certificates = values.get("cert") or os.environ.get("SSL_CERT_FILE")
    settings = {key: " ".join(values[key].split()) for key in PIP_SETTINGS if key in values}
    options = [f"--secret=id=pip_conf,src={file}"]
    if certificates:
        settings["cert"] = CA_BUNDLE
        options.append(f"--secret=id=ca_bundle,src={certificates}")
    if "find-links" in settings:
        options.append(f"--build-arg=PIP_FIND_LINKS={settings['find-links']}")
    if engine.name == "podman":  # docker cannot mount a folder during a build
        options += [f"--volume={folder}:{folder}:ro" for folder in local_folders(settings)]
    config = RawConfigParser()
    config["global"] = settings
    with file.open("w") as sink:
        config.write(sink)
    return options


def local_folders(settings: dict[str, str]) -> list[Path]:
    """Folders of wheels, and of indexes with the files that lie beside `simple`."""
    named = " ".join(settings.get(key, "") for key in ("index-url", "extra-index-url", "find-links"))
    folders = [Path(path) for path in re.findall(r"(?:^|\s|file://)(/\S+)", named)]
    folders = [folder.parent if folder.name == "simple" else folder for folder in folders]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


@pytest.fixture(scope="session")
def items() -> pa.Table:
    """Rows as a caller would have them: numbers, one of them missing, and categories."""
    import numpy as np

    draw = np.random.default_rng(0)
    size, weight = draw.normal(20, 2, 400), draw.normal(5, 1, 400)
    price = 3 * size + weight
    weight[7] = np.nan
    colour = draw.choice(["red", "green", "blue"], 400)
    return pa.table({"size": size, "weight": pa.array(weight, from_pandas=True), "price": price, "colour": colour})


@pytest.fixture(scope="session")
def bundle(image: Image, items: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle, written by the library here. It needs `image` only so that nothing is trained for a skip."""
    from elbound import VAEDetector

    folder = tmp_path_factory.mktemp("bundles")
    folder.chmod(0o755)  # pytest's is its user's alone; the container's user is another
    path = folder / "widgets"
    VAEDetector(steps=60, device="cpu").fit(items).save(path)
    return path


@pytest.fixture(scope="session")
def server(image: Image, bundle: Path, say: Say) -> Iterator[Container]:
    started = time.monotonic()
    with image.serve(bundle) as container:
        say(f"ready {time.monotonic() - started:.1f} s after `{image.engine.name} run`")
        yield container


@dataclass(frozen=True)
class Replica:
    """A container that serves a store, to callers with keys; both are folders of this machine that it may only read."""

    container: Container
    models: Path
    keys: Path
    client: httpx.Client

    def served(self) -> str:
        """The version that `/models` names."""
        (model,) = self.client.get("/models").raise_for_status().json()["models"]
        return str(model["version"])

    def allow(self, **keys: dict[str, object]) -> None:
        """Replace the file of keys: each is its own name, beside that of `client`."""
        write_keys(self.keys / "keys.json", k={"scopes": ["score", "read", "admin"]}, **keys)

    def pin(self, version: str) -> None:
        """As whoever publishes does: written beside and renamed."""
        beside = self.models / NAME / ".ACTIVE"
        beside.write_text(version)
        beside.rename(self.models / NAME / "ACTIVE")


@pytest.fixture(scope="module")
def replica(image: Image, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """Two good versions of one model, as the compose file and the manifests would run it, within 1 GiB of memory."""
    from elbound import Scorer

    models, keys = (tmp_path_factory.mktemp(name) for name in ("models", "keys"))
    scorer = Scorer.from_bundle(bundle, device="cpu")
    for folder in (models, keys):
        folder.chmod(0o755)
    for i in range(2):
        put(models, scorer, i)
    settings = {"API_KEYS_FILE": "/keys/keys.json", "STORE_POLL_S": "1"}
    options = [f"--env=ELBOUND_{name}={value}" for name, value in settings.items()]
    options += ["-v", f"{models}:/models:ro,z", "-v", f"{keys}:/keys:ro,z", "--memory=1g"]
    headers = {"Authorization": "Bearer k"}
    write_keys(keys / "keys.json", k={"scopes": ["score", "read", "admin"]})
    with image.start("serve", "--models", "/models", options=tuple(options)) as container:
        container.wait_until_ready()
        with httpx.Client(base_url=container.url, headers=headers, timeout=60) as client:
            yield Replica(container, models, keys, client)
