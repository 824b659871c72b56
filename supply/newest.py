"""Run the fast tests with the newest versions that pyproject.toml allows, on each of the Pythons named.

    python -m supply.newest 3.11 3.13 [--torch-index URL] [-- PYTEST ARGUMENTS]

constraints.txt has one version of each package, and one Python runs `make test`: this finds out early what a newer one
breaks. Each Python has an environment of its own in .newest/, made from nothing each time. A Python that is not
installed is skipped, and the last lines say so.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from supply import pins

ENVIRONMENTS = pins.FOLDER / ".newest"
FAST = ("-q", "-m", "not slow", "-p", "no:cacheprovider")
"""Without those that take long; the tests of containers, abuse, buckets, other clients and real data skip by
themselves."""


def interpreter(version: str) -> str | None:
    """A Python of this version that starts: on the PATH, or one that pyenv installed. None where there is none."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    installed = sorted(root.glob(f"versions/{version}*/bin/python{version}"))
    for command in [f"python{version}", *map(str, reversed(installed))]:
        path = shutil.which(command)
        # pyenv has a `python3.13` on the PATH that starts nothing where 3.13 is not chosen.
        if path and subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            return path
    return None


def test(python: str, environment: Path, torch_index: str, pytest: list[str]) -> str:
    """Make an environment, install into it and run the tests. Returns `passed`, or what failed."""
    own = str(environment / "bin" / "python")
    requirements = pins.project()["dependencies"]
    torch = next(one for one in requirements if one.startswith("torch"))
    index = ["--index-url", torch_index] if torch_index else []
    install = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    steps = [
        [python, "-m", "venv", "--clear", str(environment)],
        [*install, "--upgrade", "pip"],
        [*install, *index, torch],
        [*install, "--upgrade-strategy=eager", "--upgrade", "-e", ".[dev]"],
    ]
    for step in steps:
        if subprocess.run(step, cwd=pins.FOLDER, check=False).returncode:
            return f"not installed: {' '.join(step)} failed"
    print(f"newer than constraints.txt: {newer(own)}", flush=True)
    variables = {name: value for name, value in os.environ.items() if name != "ELBOUND_DATA"}
    done = subprocess.run([own, "-m", "pytest", *FAST, *pytest], cwd=pins.FOLDER, env=variables, check=False)
    return "passed" if done.returncode == 0 else f"tests failed (pytest ended with {done.returncode})"


def newer(python: str) -> str:
    """The packages in this Python's environment whose versions are not those of constraints.txt."""
    listed = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
    installed = [line.split("==") for line in listed.splitlines() if "==" in line]
    pinned = {(pin.name, pin.version) for pin in pins.locked()}
    changed = [f"{name} {version}" for name, version in installed if (pins.canonical(name), version) not in pinned]
    return ", ".join(changed) or "nothing"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("versions", nargs="+", metavar="VERSION", help="of Python, such as 3.13")
    parser.add_argument("--torch-index", default="", metavar="URL", help="an index for torch alone")
    arguments = sys.argv[1:]
    end = arguments.index("--") if "--" in arguments else len(arguments)
    given = parser.parse_args(arguments[:end])
    results = {}
    for version in given.versions:
        python = interpreter(version)
        print(f"Python {version}: {python or 'not installed'}", flush=True)
        results[version] = (
            test(python, ENVIRONMENTS / version, given.torch_index, arguments[end + 1 :]) if python else "skipped"
        )
    for version, result in results.items():
        print(f"Python {version}: {result}")
    # Where all are skipped, nothing was tested, and this is no success.
    sys.exit(not (set(results.values()) <= {"passed", "skipped"} and "passed" in results.values()))


if __name__ == "__main__":
    main()
