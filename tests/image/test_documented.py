"""The commands for the container that README.md and docs/operations.md give, run as they stand there.

Only the name of the image, the port of this machine and this machine's limits are put in their place.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pyarrow.parquet
import pytest

from elbound import Scorer
from tests.image.conftest import ROOT
from tests.image.engine import LIMITS, READY_SECONDS, Engine
from tests.service.stores import as_version, version_at

pytestmark = pytest.mark.timeout(2400)  # the first test waits for the build
README, OPERATIONS = ((ROOT / name).read_text() for name in ("README.md", "docs/operations.md"))
ROW = [{"size": 20.0, "weight": 5.0, "price": 65.0, "colour": "red"}]
DOCKER = """#!{python}
import os, sys
arguments = ["{image}" if one == "elbound" else one for one in sys.argv[2:]]
os.execvp("{engine}", ["{engine}", "run", "--name={name}", *{limits!r}, *arguments])
"""


def scripts(document, block_with):
    """The block of commands with these words, cut behind each `docker run`."""
    (block,) = (one for one in re.findall(r"```sh\n(.*?)```", document, re.DOTALL) if block_with in one)
    return re.findall(r"(?:.*\n)*?docker run (?:.*\\\n)*.*\n", block)


OPEN, KEYED = scripts(README, "ELBOUND_INSECURE=1")
SEVERAL, BULK = scripts(OPERATIONS, "elbound serve widgets digits")


@dataclass
class Shell:
    """A folder as the documents expect it, in which `docker run` runs the image under test."""

    folder: Path
    container: str
    engine: Engine
    port: int
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def run(self, script):
        environ = {name: value for name, value in os.environ.items() if not name.startswith("ELBOUND_")}
        environ["PATH"] = f"{self.folder / 'bin'}:{Path(sys.executable).parent}:{environ['PATH']}"
        script = script.replace("8000:8000", f"{self.port}:8000")
        with (self.folder / "log").open("a") as log:
            self.started.append(
                subprocess.Popen(
                    ["sh", "-euc", script], cwd=self.folder, env=environ, text=True, stdout=subprocess.PIPE, stderr=log
                )
            )
        return self.started[-1]

    def score(self, model="", **options):
        """The answer to a row, as soon as the server is ready."""
        url, end = f"http://127.0.0.1:{self.port}", time.monotonic() + READY_SECONDS
        while time.monotonic() < end and self.started[-1].poll() is None:
            try:
                if httpx.get(f"{url}/readyz").is_success:
                    return httpx.post(f"{url}/score", params={"model": model} if model else {}, json=ROW, **options)
            except httpx.TransportError:
                time.sleep(0.1)
        pytest.fail((self.folder / "log").read_text())


@pytest.fixture
def shell(image, bundle, tmp_path):
    (tmp_path / "bin").mkdir()
    container = f"elbound-{uuid.uuid4().hex[:8]}"
    names = {"python": sys.executable, "image": image.name, "engine": image.engine.name, "name": container}
    docker = tmp_path / "bin" / "docker"
    docker.write_text(DOCKER.format(**names, limits=LIMITS))
    docker.chmod(0o755)
    tmp_path.chmod(0o755)
    shutil.copytree(bundle, tmp_path / "bundles" / "widgets")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shell = Shell(tmp_path, container, image.engine, port)
    yield shell
    image.engine.run("rm", "-f", container)
    for process in shell.started:
        process.communicate(timeout=30)


def test_for_this_machine_alone(shell):
    shell.run(OPEN)
    assert shell.score().status_code == 200


def key_of(process):
    """The first line on standard output: `elbound keys new` prints the key and nothing else."""
    return {"Authorization": f"Bearer {process.stdout.readline().strip()}"}


def test_for_whoever_has_a_key(shell):
    headers = key_of(shell.run(KEYED))
    assert shell.score().status_code == 401
    assert shell.score(headers=headers).status_code == 200


def test_several_bundles(shell):
    digits = as_version(
        Scorer.from_bundle(shell.folder / "bundles" / "widgets", device="cpu"), version_at(0), name="digits"
    )
    digits.save(shell.folder / "bundles" / "digits")
    made = "elbound keys new --name me --scope score --file secrets/keys.json\n"
    headers = key_of(shell.run(made + SEVERAL))
    for model in ("vae-detector", "digits"):
        assert shell.score(model, headers=headers).json()["model"]["name"] == model


def test_bulk(shell, items):
    shell.folder.chmod(0o777)  # as the document says: the container's user is nobody here
    pyarrow.parquet.write_table(items, shell.folder / "big.parquet")
    assert shell.run(BULK).wait(120) == 0
    assert pyarrow.parquet.read_table(shell.folder / "results").num_rows == items.num_rows
