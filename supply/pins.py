"""Print the pins of constraints.txt that the service, or some extras of pyproject.toml, need: with their hashes.

    python -m supply.pins [--torch cpu|cuda] [EXTRA ...] > pins.txt
    pip install --require-hashes -r pins.txt

pip refuses a package that is not in the file, a file of a package whose hash is not there, and another version.
constraints.txt as a whole cannot be installed: it has what every extra needs, and the libraries of CUDA. Which
packages need which is in the lines "# via" that `make lock` writes.

This file needs Python alone, since it runs before anything is installed.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1]
CUDA = ("nvidia-", "cuda-", "triton")
"""How the names begin of what torch needs on a GPU alone."""


@dataclass(frozen=True)
class Pin:
    """One entry of constraints.txt: `text` is the requirement with its hashes, `parents` the packages that need it."""

    name: str
    text: str
    parents: frozenset[str]

    @property
    def requirement(self) -> str:
        """The requirement without its hashes."""
        return self.text.partition(" \\\n")[0]

    @property
    def version(self) -> str:
        return self.requirement.partition("==")[2].partition(" ")[0]


def canonical(name: str) -> str:
    """The name of a package as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read(text: str) -> list[Pin]:
    """The pins of a file that `uv pip compile` wrote. Raises ValueError where an entry has no hash."""
    found = []
    for entry in re.split(r"\n(?=[A-Za-z0-9])", "\n" + text)[1:]:
        lines = entry.splitlines()
        pinned = [line for line in lines if not line.lstrip().startswith("#")]
        if "--hash=sha256:" not in entry:
            raise ValueError(f"{lines[0]!r} has no hash. `make lock` writes constraints.txt with hashes")
        comments = [line.strip(" #") for line in lines if line.lstrip().startswith("#")]
        parents = {canonical(one.removeprefix("via").split()[0]) for one in comments if one.removeprefix("via").split()}
        name = re.split(r"[=\[; ]", lines[0])[0]
        found.append(Pin(canonical(name), "\n".join(pinned), frozenset(parents)))
    return found


def locked() -> list[Pin]:
    """The pins of constraints.txt. Raises ValueError as `read` does."""
    return read((FOLDER / "constraints.txt").read_text())


def project() -> dict[str, Any]:
    """The table `project` of pyproject.toml."""
    found: dict[str, Any] = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]
    return found


def roots(project: dict[str, Any], extras: Iterable[str]) -> set[str]:
    """The packages that the project names itself, for the service and for these extras.

    Raises ValueError where pyproject.toml has no such extra.
    """
    optional = project["optional-dependencies"]
    requirements = list(project["dependencies"])
    waiting, seen = list(extras), set()
    while waiting:
        extra = waiting.pop()
        if extra not in optional:
            raise ValueError(f"pyproject.toml has no extra {extra!r}. It has {', '.join(sorted(optional))}")
        if extra not in seen:
            seen.add(extra)
            requirements += optional[extra]
            waiting += [name for text in optional[extra] for name in own_extras(text)]
    return {canonical(re.split(r"[^A-Za-z0-9._-]", text)[0]) for text in requirements} - {"elbound"}


def own_extras(requirement: str) -> list[str]:
    """The extras in `elbound[a,b]`, none of another package's."""
    found = re.match(r"elbound\[([^]]*)\]", requirement)
    return [name.strip() for name in found[1].split(",")] if found else []


def needed(pins: list[Pin], names: set[str], *, cuda: bool) -> list[Pin]:
    """The pins of these packages and of all that they need in turn.

    Without `cuda` it has neither torch, whose build for CPUs torch-cpu.txt pins, nor what torch needs on a GPU alone.
    Raises ValueError where one of the names is not pinned.
    """
    absent = names - {pin.name for pin in pins}
    if absent:
        raise ValueError(f"constraints.txt does not pin {', '.join(sorted(absent))}. `make lock` adds it")
    pins = [pin for pin in pins if cuda or not pin.name.startswith(CUDA)]
    chosen = set(names)
    while more := {pin.name for pin in pins if pin.parents & chosen} - chosen:
        chosen |= more
    return [pin for pin in pins if pin.name in chosen and (cuda or pin.name != "torch")]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "extras", nargs="*", metavar="EXTRA", help="an extra of pyproject.toml beside what serving needs"
    )
    parser.add_argument(
        "--torch", choices=("cpu", "cuda"), default="cpu", help="cuda: torch as PyPI serves it, with CUDA"
    )
    parser.add_argument("--all", action="store_true", help="every pin, for `pip install -c`, without hashes")
    given = parser.parse_args()
    try:
        pins = locked()
        if given.all:
            print(*(pin.requirement for pin in pins), sep="\n")
            return
        chosen = needed(pins, roots(project(), given.extras), cuda=given.torch == "cuda")
    except ValueError as error:
        sys.exit(str(error))
    print(*(pin.text for pin in chosen), sep="\n")


if __name__ == "__main__":
    main()
