"""The whole path on real data: two bundles trained, one server started, uploads scored over HTTP."""

import io
import os
import re
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from elbound.errors import ElboundError
from elbound.scorer import Scorer
from training.bundles.evaluate import require_extra
from training.config import BundleConfig, CalibrationConfig, DataConfig, TrainConfig
from training.console import console
from training.train.pipeline import train

ALPHA = 0.05
START_TIMEOUT_S = 60
SHOWN = 5


@dataclass(frozen=True)
class Verdicts:
    """What the server said of held-out normals and of anomalies, in the order of `names`."""

    names: list[str]
    anomalous: np.ndarray
    items: list[dict[str, object]]

    def column(self, field: str) -> np.ndarray:
        return np.array([item[field] for item in self.items], dtype=np.float64)


def run_demo(out: Path, *, keep: bool, port: int) -> None:
    """Write data, train, serve, upload, judge, draw. Raises ElboundError."""
    for package in ("sklearn", "matplotlib", "httpx"):
        require_extra(package)
    from training.demo.data import write_cancer, write_digits

    console.rule("digits: images of 0 to 4 are normal, 5 to 9 are not")
    digits = write_digits(out / "data" / "digits")
    _train(digits / "train", out / "bundles" / "digits")
    console.rule("breast cancer: benign rows are normal, malignant ones are not")
    cancer = write_cancer(out / "data" / "cancer")
    _train(cancer / "train.csv", out / "bundles" / "cancer")
    console.rule("serving both, scoring uploads over HTTP")
    bundles = [out / "bundles" / "digits", out / "bundles" / "cancer"]
    server, url = start_server(bundles, port=port, log=out / "server.log")
    try:
        seen = _upload_digits(url, digits)
        _report("digits", seen, bundles[0])
        picture = draw_digits(seen, digits, out / "digits.png")
        rows = _upload_cancer(url, cancer)
        _report("cancer", rows, bundles[1])
        console.print(f"the most and the least anomalous digits: {picture}")
        if keep:
            _say_what_to_try(url, digits, cancer, server.pid)
    finally:
        if not keep:
            server.terminate()
            server.wait()


def start_server(bundles: list[Path], *, port: int, log: Path) -> tuple["subprocess.Popen[bytes]", str]:
    """The real `elbound serve` as a process of its own; returns it and its address once it is ready."""
    import httpx

    command = [sys.executable, "-m", "elbound", "serve", *map(str, bundles), "--port", str(port)]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ELBOUND_")}
    with log.open("wb") as sink:
        server = subprocess.Popen(command, stdout=sink, stderr=sink, env=environ, start_new_session=True)
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until and server.poll() is None:
        found = re.search(r"listening on (http://\S+)", log.read_text())
        try:
            if found and httpx.get(f"{found[1]}/readyz").is_success:
                return server, found[1]
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    server.kill()
    raise ElboundError(f"the server did not start; see {log}:\n{log.read_text()[-2000:]}", where=str(log))


def draw_digits(seen: Verdicts, folder: Path, path: Path) -> Path:
    """The ten most and the ten least anomalous of all held-out digits, with their p-values."""
    from matplotlib.figure import Figure
    from PIL import Image

    order = np.argsort(-seen.column("score"), kind="stable")
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    axes = figure.subplots(2, 10)
    for row, (title, picked) in enumerate([("most anomalous", order[:10]), ("least anomalous", order[:-11:-1])]):
        for axis, i in zip(axes[row], picked, strict=True):
            axis.imshow(Image.open(folder / "test" / seen.names[i]), cmap="gray")
            axis.set_title(f"{title if axis is axes[row][0] else ''}\np = {seen.items[i]['p_value']:.3f}", fontsize=9)
            axis.set_axis_off()
    figure.savefig(path, dpi=110)
    return path


def _train(data: Path, out: Path) -> Scorer:
    config = TrainConfig(
        data=DataConfig(path=data),
        calibration=CalibrationConfig(alpha=ALPHA),
        bundle=BundleConfig(out=out, force=True),
    )
    return train(config)


def _upload_digits(url: str, folder: Path) -> Verdicts:
    names = sorted(str(file.relative_to(folder / "test")) for file in (folder / "test").rglob("*.png"))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in names:
            archive.write(folder / "test" / name, name)
    items = _post(url, "digits", packed.getvalue(), "application/zip")
    return Verdicts(names, np.array([name.startswith("anomalous") for name in names]), items)


def _upload_cancer(url: str, folder: Path) -> Verdicts:
    names, flags, items = [], [], []
    for part in ("normal", "anomalous"):
        found = _post(url, "cancer", (folder / f"test_{part}.csv").read_bytes(), "text/csv")
        names += [f"{part} row {item['index']}" for item in found]
        flags += [part == "anomalous"] * len(found)
        items += found
    return Verdicts(names, np.array(flags), items)


def _post(url: str, model: str, body: bytes, media_type: str) -> list[dict[str, object]]:
    import httpx

    answer = httpx.post(
        f"{url}/score", params={"model": model}, content=body, headers={"content-type": media_type}, timeout=60
    )
    answer.raise_for_status()
    items: list[dict[str, object]] = answer.json()["items"]
    return items


def _report(model: str, seen: Verdicts, bundle: Path) -> None:
    from elbound.evaluation import auroc, realised_rate

    table = Table("upload", "really", "verdict", "p-value", "severity", "score (nats)", title=model)
    for anomalous in (False, True):
        for i in np.flatnonzero(seen.anomalous == anomalous)[:SHOWN]:
            item = seen.items[i]
            verdict = "[red]anomaly[/]" if item["is_anomaly"] else "normal"
            numbers = (f"{item[field]:.3f}" for field in ("p_value", "severity", "score"))
            table.add_row(seen.names[i], "anomalous" if anomalous else "normal", verdict, *numbers)
    console.print(table)
    scores = seen.column("score")
    normal, anomalous_scores = scores[~seen.anomalous], scores[seen.anomalous]
    rate = realised_rate(Scorer.from_bundle(bundle, device="cpu").calibration.verdict, normal, ALPHA, confidence=0.99)
    caught = float(seen.column("is_anomaly")[seen.anomalous].mean())
    console.print(
        f"{model}: AUROC {auroc(normal, anomalous_scores):.4f}; at alpha = {ALPHA:g} false alarms on "
        f"{rate.alarms} of {rate.items} normals never seen = {rate.rate:.4f} "
        f"(a kept promise allows {rate.low} to {rate.high} in 99 of 100 cases); "
        f"{caught:.1%} of {len(anomalous_scores)} anomalies caught\n"
    )


def _say_what_to_try(url: str, digits: Path, cancer: Path, pid: int) -> None:
    odd = sorted((digits / "test" / "anomalous").iterdir())[0]
    console.print("\nthe server keeps running; try:", markup=False)
    for line in (
        f"curl -s '{url}/score?model=digits' -H 'Content-Type: image/png' --data-binary @{odd}",
        f"curl -s '{url}/score?model=cancer&alpha=0.1' -H 'Content-Type: text/csv' "
        f"--data-binary @{cancer / 'test_anomalous.csv'}",
        f"curl -s {url}/models",
    ):
        console.print(f"  {line}", markup=False, soft_wrap=True)
    console.print(f"and stop it with: kill {pid}", markup=False)
