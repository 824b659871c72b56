"""A container engine, the image that it builds from this checkout, and containers of that image."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from configparser import RawConfigParser
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import httpx
import pyarrow as pa
import pytest

Say: TypeAlias = Callable[[str], None]

ROOT = Path(__file__).parents[2]
IMAGE = "localhost/elbound-image-test"
BASE = "docker.io/library/python:3.11-slim-bookworm"
STAND_IN = "localhost/elbound-image-test-base"
PULL_SECONDS = 180
READY_SECONDS = 90
GRACE_SECONDS = 40
CA_BUNDLE = "/run/secrets/ca_bundle"
PIP_SETTINGS = ("index-url", "extra-index-url", "find-links", "trusted-host", "proxy", "timeout", "default-timeout")
# Limits of our own: inside a virtual machine or a container, the engine's defaults may be above the host's.
HARDENED = (
    "--read-only",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--tmpfs=/tmp:size=64m",
    "--ulimit=nofile=4096:4096",
    "--ulimit=nproc=4096:4096",
    "--no-healthcheck",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-image", action="store_true", help="build the container image and test it")


def pytest_runtest_setup(item: pytest.Item) -> None:
    # The option is unknown where this file was not there when the command line was read: plain `pytest`.
    if not item.config.getoption("--run-image", default=False):
        pytest.skip("these build and run a container image: `make image-test`")


@dataclass(frozen=True)
class Engine:
    """podman or docker, by its command line."""

    name: str

    def run(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.name, *arguments], capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL
        )

    def output(self, *arguments: str, timeout: float = 120) -> str:
        done = self.run(*arguments, timeout=timeout)
        assert done.returncode == 0, f"{self.name} {' '.join(arguments)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout.strip()

    @property
    def hardening(self) -> tuple[str, ...]:
        """Options of a container that may write to /tmp and do nothing more than its user."""
        # podman adds folders that can be written; docker does not.
        return (*HARDENED, "--read-only-tmpfs=false") if self.name == "podman" else HARDENED

    def has(self, image: str) -> bool:
        return self.run("image", "inspect", image).returncode == 0

    def pull(self, image: str) -> bool:
        try:
            return self.run("pull", image, timeout=PULL_SECONDS).returncode == 0
        except subprocess.TimeoutExpired:
            return False


@dataclass(frozen=True)
class Container:
    """A running container and the address of its server."""

    engine: Engine
    id: str
    url: str

    def exec(self, *command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        return self.engine.run("exec", *options, self.id, *command)

    def wait_until_ready(self) -> None:
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            try:
                if httpx.get(f"{self.url}/readyz").is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.2)
        logs = self.engine.run("logs", self.id)
        pytest.fail(f"not ready after {READY_SECONDS} s\n{logs.stdout}{logs.stderr}")

    def stop(self) -> int:
        """SIGTERM, then the exit status: 137 where the container had to be killed."""
        self.engine.output("stop", "-t", str(GRACE_SECONDS), self.id, timeout=GRACE_SECONDS + 30)
        return int(self.engine.output("inspect", "--format", "{{.State.ExitCode}}", self.id))


@dataclass(frozen=True)
class Image:
    """The image under test. Its containers are read-only and have no capabilities."""

    engine: Engine
    name: str

    @property
    def size(self) -> int:
        return int(self.engine.output("image", "inspect", "--format", "{{.Size}}", self.name))

    @property
    def health_check(self) -> list[str]:
        """The command; an orchestrator's timer would run it."""
        facts = json.loads(self.engine.output("image", "inspect", self.name))[0]
        kind, *command = (facts.get("Healthcheck") or facts["Config"]["Healthcheck"])["Test"]
        assert kind == "CMD"
        return command

    @property
    def labels(self) -> dict[str, str]:
        """Those of OCI, without their common beginning."""
        facts = json.loads(self.engine.output("image", "inspect", self.name))[0]
        labels = facts.get("Labels") or facts["Config"]["Labels"]
        return {name.rpartition(".")[2]: value for name, value in labels.items() if "opencontainers" in name}

    def run(self, *command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        return self.engine.run("run", "--rm", *self.engine.hardening, *options, self.name, *command)

    @contextmanager
    def serve(self, bundle: Path, *options: str, port: int = 8000) -> Iterator[Container]:
        """The image's own command, with `bundle` where it expects it, on a port that only this machine reaches."""
        options = options or ("-e", "ELBOUND_INSECURE=1")
        mounted = ("-v", f"{bundle}:/bundles/model:ro,z", "-p", f"127.0.0.1::{port}")
        id_ = self.engine.output("run", "-d", *self.engine.hardening, *mounted, *options, self.name)
        try:
            address = self.engine.output("port", id_, f"{port}/tcp").splitlines()[0]
            container = Container(self.engine, id_, f"http://{address}")
            container.wait_until_ready()
            yield container
        finally:
            self.engine.run("rm", "-f", id_)


@pytest.fixture(scope="session")
def engine() -> Engine:
    name = next((name for name in ("podman", "docker") if shutil.which(name)), None)
    if name is None:
        pytest.skip("neither podman nor docker is installed")
    return Engine(name)


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
    """What a build is told about itself."""
    return {"VERSION": "1.2.3", "REVISION": "0" * 40, "SOURCE": "https://git.example.com/elbound"}


@pytest.fixture(scope="session")
def image(
    engine: Engine, base: str, labels: dict[str, str], say: Say, tmp_path_factory: pytest.TempPathFactory
) -> Image:
    pip = pip_options(engine, tmp_path_factory.mktemp("pip") / "pip.conf")
    podman = ("--format=docker", "--isolation=chroot", "--layers") if engine.name == "podman" else ()
    started = time.monotonic()
    engine.output(
        "build",
        *podman,
        "--network=host",
        f"--build-arg=PYTHON_IMAGE={base}",
        *(f"--build-arg={name}={value}" for name, value in labels.items()),
        *pip,
        "-t",
        IMAGE,
        str(ROOT),
        timeout=1500,
    )
    built = Image(engine, IMAGE)
    say(f"built with {engine.name} in {time.monotonic() - started:.0f} s, {built.size / 1e6:,.0f} MB")
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
def server(image: Image, bundle: Path) -> Iterator[Container]:
    with image.serve(bundle) as container:
        yield container
