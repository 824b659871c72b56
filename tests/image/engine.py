"""A container engine, an image of it, and containers of that image, by the engine's command line."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

PULL_SECONDS = 180
READY_SECONDS = 90
GRACE_SECONDS = 40
# Limits of our own: inside a virtual machine or a container, the engine's defaults may be above the host's.
LIMITS = ("--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096", "--no-healthcheck")
HARDENED = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--tmpfs=/tmp:size=64m", *LIMITS)
INSECURE = ("-e", "ELBOUND_INSECURE=1")


@dataclass(frozen=True)
class Engine:
    """podman or docker, by its command line, run in a folder where it may leave files: podman leaves `oom`."""

    name: str
    folder: Path

    def run(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        command = [self.name, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, cwd=self.folder
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
    """A container that runs, and the address of its server."""

    engine: Engine
    id: str
    url: str

    def exec(self, *command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        return self.engine.run("exec", *options, self.id, *command)

    def wait_until_ready(self) -> None:
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end and self.state["Running"]:
            try:
                if httpx.get(f"{self.url}/readyz").is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        logs = self.engine.run("logs", self.id)
        pytest.fail(f"ended, or not ready after {READY_SECONDS} s\n{logs.stdout}{logs.stderr}")

    @property
    def state(self) -> dict[str, Any]:
        """What the engine says: `Running`, `ExitCode`, `OOMKilled`, ..."""
        found: dict[str, Any] = json.loads(self.engine.output("inspect", self.id))[0]["State"]
        return found

    def wait(self) -> int:
        """The exit status of a container that ends by itself."""
        return int(self.engine.output("wait", self.id))

    def stop(self) -> int:
        """SIGTERM, then the exit status: 137 where the container had to be killed."""
        self.engine.output("stop", "-t", str(GRACE_SECONDS), self.id, timeout=GRACE_SECONDS + 30)
        return int(self.state["ExitCode"])


@dataclass(frozen=True)
class Image:
    """The image under test. Its containers are read-only and have no capabilities."""

    engine: Engine
    name: str

    @property
    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.engine.output("image", "inspect", self.name))[0]
        return found

    @property
    def layers(self) -> list[str]:
        """The hashes of what the layers hold, the base image's first."""
        found: list[str] = self.facts["RootFS"]["Layers"]
        return found

    @property
    def health_check(self) -> list[str]:
        """The command; an orchestrator's timer would run it."""
        kind, *command = (self.facts.get("Healthcheck") or self.facts["Config"]["Healthcheck"])["Test"]
        assert kind == "CMD"
        return command

    @property
    def labels(self) -> dict[str, str]:
        """Those of OCI, without their common beginning."""
        labels = self.facts.get("Labels") or self.facts["Config"]["Labels"]
        return {name.rpartition(".")[2]: value for name, value in labels.items() if "opencontainers" in name}

    def run(self, *command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        return self.engine.run("run", "--rm", *self.engine.hardening, *options, self.name, *command)

    @contextmanager
    def start(self, *command: str, options: tuple[str, ...] = (), port: int = 8000) -> Iterator[Container]:
        """`command` or the image's own, with `port` published where only this machine reaches it; not waited for."""
        published = ("-p", f"127.0.0.1::{port}")
        id_ = self.engine.output("run", "-d", *self.engine.hardening, *published, *options, self.name, *command)
        try:
            address = self.engine.output("port", id_, f"{port}/tcp").splitlines()[0]
            yield Container(self.engine, id_, f"http://{address}")
        finally:
            self.engine.run("rm", "-f", id_)

    @contextmanager
    def serve(self, bundle: Path, *options: str, port: int = 8000) -> Iterator[Container]:
        """The image's own command, ready, with `bundle` where it expects it; for everybody unless options say more."""
        mounted = ("-v", f"{bundle}:/bundles/model:ro,z")
        with self.start(options=(*mounted, *(options or INSECURE)), port=port) as container:
            container.wait_until_ready()
            yield container
