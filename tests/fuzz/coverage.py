"""One of our decoders under atheris, which follows the branches it takes: `python -m tests.fuzz.coverage csv 60 DIR`.

Runs in an environment of its own. Ends with another status than 0 where an input is found that raises what it may not,
takes too long or too much memory; libFuzzer leaves that input in DIR.
"""

import sys
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["elbound", "service"]):
    from elbound.errors import ElboundError
    from tests.fuzz.targets import TARGETS

MAX_INPUT_BYTES = 65_536
MAX_MEMORY_MB = 3_072
MAX_SECONDS = 20


def main(name: str, seconds: str, folder: str) -> None:
    target, seeds = TARGETS[name]
    corpus = Path(folder, "corpus", name)
    corpus.mkdir(parents=True, exist_ok=True)
    for i, seed in enumerate(seeds):
        (corpus / f"seed-{i}").write_bytes(seed)

    def once(data: bytes) -> None:
        with suppress(ElboundError):
            target(data)

    options = {
        "max_total_time": seconds, "max_len": MAX_INPUT_BYTES, "rss_limit_mb": MAX_MEMORY_MB, "timeout": MAX_SECONDS,
        "artifact_prefix": f"{folder}/{name}-", "print_final_stats": 1,
    }  # fmt: skip
    atheris.Setup([sys.argv[0], *(f"-{key}={value}" for key, value in options.items()), str(corpus)], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
