"""Ask the package index which pins of constraints.txt have known vulnerabilities: what `make check` runs at its end.

    python -m supply.audit [FILE]

pip-audit asks. But it says "No known vulnerabilities found" even where the index tells nothing about any package, and
it fails where the index does not answer. Here the first line says what happened: passed, failed, or skipped and why.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "constraints.txt"
OPTIONS = ("--disable-pip", "--require-hashes", "--progress-spinner=off", "--timeout=15", "--format=json")


def summary(dependencies: list[dict[str, Any]]) -> tuple[list[str], bool]:
    """What to print about a report of pip-audit, and whether something vulnerable is pinned."""
    asked = [one for one in dependencies if "skip_reason" not in one]
    untold = [one["name"] for one in dependencies if "skip_reason" in one]
    if not asked:
        return [
            f"audit skipped: the package index says nothing about vulnerabilities of any of {len(untold)} packages"
        ], False
    found = [(one, each) for one in asked for each in one["vulns"]]
    lines = [
        f"{one['name']} {one['version']}: {each['id']}, mended in {' or '.join(each['fix_versions']) or 'no release'}"
        for one, each in found
    ]
    if untold:
        lines.append(f"not audited, since the package index says nothing about them: {', '.join(untold)}")
    vulnerable = len({one["name"] for one, _ in found})
    result = f"audit failed: {vulnerable} of" if found else "audit passed: none of"
    return [f"{result} {len(asked)} packages that were asked about have known vulnerabilities", *lines], bool(found)


def main(file: str = str(FILE)) -> None:
    if importlib.util.find_spec("pip_audit") is None:
        print("audit skipped: pip-audit is not installed (it is in the extra `dev`)")
        return
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "pip_audit", *OPTIONS, f"--output={report}", f"--requirement={file}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if report.exists():
            lines, vulnerable = summary(json.loads(report.read_text())["dependencies"])
            print(*lines, sep="\n")
            sys.exit(vulnerable)
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    if last.startswith("requests.exceptions.") or "onnect" in last:
        print(f"audit skipped: the package index does not answer ({last})")
    else:
        sys.exit(f"audit failed: pip-audit ended with {done.returncode} and no report. {last}")


if __name__ == "__main__":
    main(*sys.argv[1:])
