"""python -m benchmarks.serving [--only LINE ...] [--quick]: measure, and render benchmarks/results/serving.md.

Needs wrk, and for the lines `peers` and `large` what `make bench-peers` installs. A line that is measured replaces
itself; results/serving-remarks.md is appended as it is.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.serving import against, gpu, one_row, overload, tails
from benchmarks.serving.bundles import Material, fit_bundles
from benchmarks.serving.record import Found, Record
from benchmarks.serving.run import QUICK, Pace
from benchmarks.tables import RESULTS

LINES: dict[str, tuple[str, Callable[[Material, Pace], Found]]] = {
    "empty": ("One-row requests over an empty POST", one_row.over_empty),
    "peers": ("One-row requests over LitServe, MLServer and BentoML", against.one_row),
    "naive": ("One-row requests over naive FastAPI", one_row.over_naive),
    "large": ("4,096 rows of JSON over LitServe, MLServer and BentoML", against.large),
    "tail": ("Latency at a constant rate", tails.over_empty),
    "bulk": ("Latency beside a bulk upload", tails.beside_bulk),
    "overload": ("Three times capacity", overload.three_times),
    "idle": ("Idle", one_row.idle),
    "metrics": ("What metrics cost", one_row.over_no_metrics),
    "gpu": ("On a GPU", gpu.on_gpu),
}
REMARKS = "serving-remarks.md"


def main(words: Sequence[str] | None = None) -> int:
    """Measure the lines that are asked for; 1 where one could not be measured for a fault."""
    asked = _parser().parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # which ends the servers too
    failed = 0
    with tempfile.TemporaryDirectory(prefix="elbound-bench-") as name:
        folder = Path(name)
        record = Record(folder if asked.quick else asked.out)
        material = fit_bundles(folder)
        for line in asked.only or LINES:
            started = time.perf_counter()
            try:
                found = LINES[line][1](material, QUICK if asked.quick else Pace())
            except (RuntimeError, OSError) as error:
                print(f"{line} failed: {error}", file=sys.stderr)
                failed += 1
                continue
            record.put(line, found)
            for figure in found.figures:
                print(" | ".join(figure.row("")), flush=True)
            print(f"{line}: {time.perf_counter() - started:,.0f} s", flush=True)
        remarks = asked.out / REMARKS
        titles = {line: title for line, (title, _) in LINES.items()}
        page = record.render(titles, remarks.read_text() if remarks.exists() else "")
    if asked.quick:
        print(page)
    else:
        (asked.out / "serving.md").write_text(page)
        print(f"{asked.out / 'serving.md'} is written.")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description="Measure serving.")
    add = parser.add_argument
    add("--only", nargs="+", choices=tuple(LINES), metavar="LINE", help=", ".join(LINES))
    add("--quick", action="store_true", help="one short round of each; printed and not kept")
    add("--out", type=Path, default=RESULTS, help="the folder of serving.json and serving.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
