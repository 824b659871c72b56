"""LitServe: python -m benchmarks.peers.litserve_server SETTINGS, a JSON object."""

import json
import sys
from itertools import accumulate
from typing import Any

import litserve
import numpy as np

from benchmarks.peers.function import Function, array


class Elbound(litserve.LitAPI):
    def __init__(self, bundle: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.bundle = bundle

    def setup(self, device: str) -> None:  # noqa: ARG002
        self.function = Function(self.bundle)

    def decode_request(self, request: dict[str, Any]) -> np.ndarray:
        return array(request["rows"])

    def batch(self, inputs: list[np.ndarray]) -> tuple[np.ndarray, list[int]]:
        return np.concatenate(inputs), list(accumulate(map(len, inputs)))

    def predict(self, x: Any) -> Any:
        if isinstance(x, np.ndarray):
            return self.function(x)
        rows, ends = x
        return self.function(rows), ends

    def unbatch(self, output: tuple[dict[str, np.ndarray], list[int]]) -> list[dict[str, np.ndarray]]:
        found, ends = output
        starts = [0, *ends[:-1]]
        return [
            {name: values[start:end] for name, values in found.items()} for start, end in zip(starts, ends, strict=True)
        ]

    def encode_response(self, output: dict[str, np.ndarray]) -> dict[str, list[float]]:
        return {name: values.tolist() for name, values in output.items()}


def main() -> None:
    asked = json.loads(sys.argv[1])
    api = Elbound(asked["bundle"], max_batch_size=asked["max_batch_size"], batch_timeout=asked["batch_timeout"])
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=asked["workers_per_device"], fast_queue=asked["fast_queue"]
    )
    server.run(host="127.0.0.1", port=asked["port"], log_level="error", generate_client_file=False)


if __name__ == "__main__":
    main()
