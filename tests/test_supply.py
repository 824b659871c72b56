"""Every package of the service and its extras is pinned, and so is what makes the bill of materials."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_PINNED = {"bench"}
"""Extras for measurements beside other programs, which change with them."""


def pins(file: str) -> dict[str, str]:
    lines = [line for line in (ROOT / file).read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines), file
    return {str(canonicalize_name(line.partition("==")[0])): line.partition("==")[2] for line in lines}


def needed(texts: list[str]) -> set[str]:
    """The names of these requirements and of what they need in turn, as far as they are installed here."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in texts]
    while waiting:
        one = waiting.pop()
        name = str(canonicalize_name(one.name))
        key = f"{name}[{','.join(sorted(one.extras))}]"
        if name == "elbound" or key in found or not applies(one, set()):
            continue
        found.add(key)
        try:
            below = [Requirement(text) for text in distribution(name).requires or []]
        except PackageNotFoundError:
            continue
        waiting += [requirement for requirement in below if applies(requirement, one.extras)]
    return {key.partition("[")[0] for key in found}


def applies(one: Requirement, extras: set[str]) -> bool:
    return one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in (extras or {""}))


def test_all_that_is_installed_is_pinned() -> None:
    texts = list(PROJECT["dependencies"])
    for extra, requirements in PROJECT["optional-dependencies"].items():
        if extra not in NOT_PINNED:
            texts += requirements
    constraints = pins("constraints.txt")
    cuda = {name for name in needed(texts) if name.startswith(("nvidia-", "cuda-", "triton"))}
    assert needed(texts) - cuda <= constraints.keys()
    for text in texts:
        one = Requirement(text)
        if one.name != "elbound":
            assert one.specifier.contains(constraints[canonicalize_name(one.name)]), text


def test_what_makes_the_bill_of_materials_is_pinned() -> None:
    assert "cyclonedx-bom" in pins(".ci/sbom.txt")
