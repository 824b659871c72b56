"""Whether memory stays flat over a million mixed requests.

python -m benchmarks.soak [--requests N]. wrk sends them over 64 connections, in turn: single rows, many rows as CSV and
as NDJSON, tensors of the inference protocol, what is refused, and what operators ask.
"""

import argparse
import json
import re
import subprocess
import tempfile
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import orjson

from benchmarks.serving.bundles import COLUMNS, NAMES, SENT_ROWS, fit_bundles
from benchmarks.serving.closed import WITH_KEY
from benchmarks.serving.process import Server, own
from benchmarks.tables import keep

CONNECTIONS, SPAN_SECONDS = 64, 5
WARM_UP = 0.05
"""Share of the requests before memory is looked at: threads, pools and caches grow to their size."""
MARK_MB = 32
REFUSED = 5
"""Of a turn."""
SINGLE_ROWS = 400
"""So many of them in each turn of the others."""
CSV = {**WITH_KEY, "content-type": "text/csv"}
NDJSON = {"content-type": "application/x-ndjson", "accept": "application/x-ndjson"}


@dataclass(frozen=True)
class Asked:
    path: str
    body: str = ""
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=lambda: dict(WITH_KEY))


def mixed(rows: list[list[float]]) -> list[Asked]:
    """One turn."""
    objects = [orjson.dumps(dict(zip(NAMES, row, strict=True))).decode() for row in rows]
    lines = [",".join(map(str, row)) for row in rows]
    tensor = {"name": "input", "datatype": "FP64", "shape": [8, COLUMNS], "data": rows[:8]}
    return [
        *(Asked("/score", f"[{one}]") for one in islice(cycle(objects), SINGLE_ROWS)),
        Asked("/score?layout=columns&alpha=0.2", orjson.dumps(rows).decode()),
        Asked("/score", "\n".join([",".join(NAMES), *lines * 8]), headers=CSV),
        Asked("/score", "\n".join(objects), headers={**WITH_KEY, **NDJSON}),
        Asked("/v2/models/bench/infer", json.dumps({"inputs": [tensor]})),
        Asked("/score", "[[1,"),
        Asked("/score", '[[1, "x"]]'),
        Asked("/score?model=nobody", "[[1]]"),
        Asked("/score", "[[1]]", headers={**WITH_KEY, "authorization": "Bearer wrong"}),
        Asked("/nowhere", "{}"),
        Asked("/models", method="GET"),
        Asked("/metrics", method="GET"),
    ]


def script(turn: list[Asked]) -> str:
    """The same for wrk."""
    made = []
    for one in turn:
        headers = ", ".join(f'["{name}"] = "{value}"' for name, value in one.headers.items())
        made.append(f"wrk.format('{one.method}', '{one.path}', {{{headers}}}, [==[{one.body}]==])")
    return (
        "local ready, i = {}, 0\n"
        f"init = function(args) ready = {{{', '.join(made)}}} end\n"
        "request = function() i = i % #ready + 1; return ready[i] end\n"
    )


def resident_mb(server: Server) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def send(server: Server, file: Path) -> tuple[int, int]:
    """One span: requests answered, and those among them not with 2xx. Raises RuntimeError where a socket fails."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SPAN_SECONDS}s", "--timeout", "30s", "-s", str(file), server.url]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    answered = re.search(r"(\d+) requests in", found)
    if "Socket errors" in found or answered is None:
        raise RuntimeError(found)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", found)
    return int(answered[1]), int(refused[1]) if refused else 0


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure memory over many requests.")
    parser.add_argument("--requests", type=int, default=1_000_000)
    wanted = parser.parse_args().requests
    with tempfile.TemporaryDirectory() as name:
        material = fit_bundles(Path(name))
        turn = mixed(material.rows[:SENT_ROWS].tolist())
        file = Path(name) / "mixed.lua"
        file.write_text(script(turn))
        answered, refused, memory = 0, 0, []
        with own("ours", material.bench) as server:
            while answered < wanted:
                some, bad = send(server, file)
                answered, refused = answered + some, refused + bad
                if answered >= WARM_UP * wanted:
                    memory.append((answered, resident_mb(server)))
                    print(f"{answered:,} requests: {memory[-1][1]:.1f} MB", flush=True)
    grown = max(one for _, one in memory) - memory[0][1]
    rows = [[f"{count:,}", f"{one:.1f}"] for count, one in memory[:: max(1, len(memory) // 10)]]
    rows.append([f"{memory[-1][0]:,}", f"{memory[-1][1]:.1f}"])
    if abs(refused / answered - REFUSED / len(turn)) > 0.1 * REFUSED / len(turn):
        raise RuntimeError(f"{refused:,} of {answered:,} were refused; {REFUSED} of {len(turn)} should be")
    notes = (
        f"{len(turn)} requests in turn over {CONNECTIONS} connections; {REFUSED} of them are to be refused, and are. "
        f"The most that memory grew after the first {memory[0][0]:,}: {grown:.1f} MB (mark: at most {MARK_MB})."
    )
    keep("soak", "Memory over mixed requests", ["requests", "resident, MB"], rows, notes)


if __name__ == "__main__":
    main()
