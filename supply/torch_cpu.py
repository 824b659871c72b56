"""Write torch-cpu.txt: the hashes of torch's build for CPUs, which PyPI does not have, in the version that is locked.

    python -m supply.torch_cpu [PAGE]

PAGE lists the wheels, as indexes of Python packages do; without it, https://download.pytorch.org/whl/cpu/torch/.
Where it does not answer, a file for the right version stays as it is, and a line says so.
"""

import re
import sys
from html import unescape
from urllib.parse import unquote
from urllib.request import urlopen

from supply import pins

PAGE = "https://download.pytorch.org/whl/cpu/torch/"
FILE = pins.FOLDER / "torch-cpu.txt"
SECONDS = 30
OLDEST = 11
"""The oldest Python 3 that pyproject.toml allows."""


def wheels(page: str, version: str) -> dict[str, str]:
    """The SHA-256 of each wheel of this version, by file name: of `2.13.0+cpu`, and of `2.13.0` for macOS."""
    found = {}
    for link in re.findall(r'href="([^"]*)"', page):
        address, _, hashed = unescape(link).partition("#sha256=")
        name = unquote(address.rpartition("/")[2])
        match = re.fullmatch(r"torch-([^-+]+)(?:\+cpu)?-cp3(\d+)-.*\.whl", name)
        if match and match[1] == version and int(match[2]) >= OLDEST and re.fullmatch("[0-9a-f]{64}", hashed):
            found[name] = hashed
    return found


def written(version: str, found: dict[str, str]) -> str:
    """The text of torch-cpu.txt."""
    head = "# torch's build for CPUs, from its own index: a hash for each wheel. `make lock` writes this file.\n"
    names = "".join(f"# {hashed[:12]}  {name}\n" for name, hashed in sorted(found.items()))
    return (
        head
        + names
        + " \\\n    ".join([f"torch=={version}", *(f"--hash=sha256:{one}" for one in sorted(found.values()))])
    )


def main(page: str = PAGE) -> None:
    version = next(pin.version for pin in pins.locked() if pin.name == "torch")
    try:
        with urlopen(page, timeout=SECONDS) as answer:
            text = answer.read().decode()
    except OSError as error:
        if FILE.exists() and f"torch=={version} " in FILE.read_text():
            print(f"torch-cpu.txt, for torch {version}, stays as it is: {page} does not answer ({error})")
            return
        sys.exit(
            f"{page} does not answer ({error}), and torch-cpu.txt is not for torch {version}. Run `make lock` again"
        )
    found = wheels(text, version)
    if not found:
        sys.exit(
            f"{page} lists no wheel of torch {version} with a hash. Choose a version that it has, in pyproject.toml"
        )
    FILE.write_text(written(version, found) + "\n")
    print(f"torch-cpu.txt: {len(found)} wheels of torch {version}")


if __name__ == "__main__":
    main(*sys.argv[1:])
