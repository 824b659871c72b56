"""All of the fuzzing within a budget: `make fuzz`, or `make fuzz FUZZ_SECONDS=60` for a short look.

Three quarters go to our own decoders by coverage and to the native ones by mutated files, the rest to the routes. What
is found lies in `.fuzz/findings`, and the status is 1.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from tests.fuzz.mutation import KINDS
from tests.fuzz.targets import TARGETS

COVERAGE = Path(".fuzz/coverage/bin/python")
FINDINGS = Path(".fuzz/findings")
SHARE_OF_DECODERS = 0.75
STARTUP_S = 6
"""What a child needs before it begins."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1_500)
    parser.add_argument("--only", choices=["coverage", "mutation", "routes"], nargs="*")
    arguments = parser.parse_args()
    only = arguments.only or ["coverage", "mutation", "routes"]
    FINDINGS.mkdir(parents=True, exist_ok=True)
    each = max(2, int(SHARE_OF_DECODERS * arguments.seconds / (len(TARGETS) + len(KINDS))) - STARTUP_S)
    failed = []
    if "coverage" in only:
        failed += [name for name in TARGETS if _fails(COVERAGE, "coverage", name, str(each))]
    if "mutation" in only:
        failed += [kind for kind in KINDS if _fails(Path(sys.executable), "mutation", kind, str(each))]
    if "routes" in only:
        seconds = int((1 - SHARE_OF_DECODERS) * arguments.seconds)
        failed += ["routes"] if _fails(Path(sys.executable), "routes", str(seconds)) else []
    print(f"findings in {', '.join(failed)}: see {FINDINGS}" if failed else "nothing found")  # noqa: T201
    return int(bool(failed))


def _fails(python: Path, module: str, *arguments: str) -> bool:
    return (
        subprocess.run([python, "-m", f"tests.fuzz.{module}", *arguments, str(FINDINGS)], check=False).returncode != 0
    )


if __name__ == "__main__":
    sys.exit(main())
