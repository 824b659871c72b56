"""Scores rows with Triton's own clients, in every form they know; prints what each answered as JSON."""

import asyncio
import json
import sys

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

OUTPUTS = ("score", "threshold", "is_outlier", "p_value", "elbo", "reconstruction", "kl")
KEY = {"Authorization": "Bearer boss"}


def inputs_of(rows: list[dict], *, binary: bool) -> list[triton.InferInput]:
    inputs = []
    for name, datatype, dtype in (
        ("a", "FP64", np.float64), ("b", "FP64", np.float64), ("c", "FP64", np.float64), ("ok", "BOOL", np.bool_),
        ("site", "BYTES", np.object_),
    ):  # fmt: skip
        one = triton.InferInput(name, [len(rows)], datatype)
        one.set_data_from_numpy(np.array([row[name] for row in rows], dtype=dtype), binary_data=binary)
        inputs.append(one)
    return inputs


def requested(*, binary: bool) -> list[triton.InferRequestedOutput]:
    return [triton.InferRequestedOutput(name, binary_data=binary) for name in OUTPUTS]


def listed(result: triton.InferResult) -> dict[str, list]:
    return {name: result.as_numpy(name).tolist() for name in OUTPUTS}


def blocking(address: str, keyed: str, rows: list[dict]) -> dict[str, object]:
    found: dict[str, object] = {}
    with triton.InferenceServerClient(address) as client, triton.InferenceServerClient(keyed) as boss:
        found["healthy"] = [client.is_server_live(), client.is_server_ready(), client.is_model_ready("rows")]
        found["server"] = client.get_server_metadata()["name"]
        metadata = client.get_model_metadata("rows")
        version = metadata["versions"][0]
        found["inputs"] = [one["name"] for one in metadata["inputs"]]
        found["ready"] = [client.is_model_ready("rows", version), client.is_model_ready("rows", "1")]
        found["index"] = client.get_model_repository_index()
        found["errors"] = [
            message_of(lambda: boss.load_model("rows", headers=KEY, config="{}")),
            message_of(lambda: boss.unload_model("rows", headers=KEY)),
            message_of(lambda: client.unload_model("rows")),
            message_of(lambda: client.infer("nothing", inputs_of(rows, binary=True))),
            message_of(lambda: client.get_model_metadata("rows", "1")),
        ]
        found["default"] = listed(client.infer("rows", inputs_of(rows, binary=True), model_version=version))
        for binary in (True, False):
            asked = inputs_of(rows, binary=binary)
            answer = client.infer("rows", asked, outputs=requested(binary=binary), request_id="7", timeout=20_000_000)
            found[f"binary {binary}"] = listed(answer)
            found[f"id {binary}"] = answer.get_response()["id"]
            for name in ("gzip", "deflate"):
                answer = client.infer(
                    "rows", asked, outputs=requested(binary=binary),
                    request_compression_algorithm=name, response_compression_algorithm=name,
                )  # fmt: skip
                found[f"{name} {binary}"] = listed(answer)
        waiting = [client.async_infer("rows", inputs_of(rows, binary=True)) for _ in range(4)]
        for i, one in enumerate(waiting):
            found[f"greenlet {i}"] = listed(one.get_result())
    return found


async def awaited(address: str, rows: list[dict]) -> dict[str, object]:
    async with triton_aio.InferenceServerClient(address) as client:
        assert await client.is_server_ready()
        answers = await asyncio.gather(
            *(
                client.infer("rows", inputs_of(rows, binary=True), response_compression_algorithm="gzip")
                for _ in range(4)
            ),
            client.infer("rows", inputs_of(rows, binary=False), outputs=requested(binary=False)),
        )
        return {f"asyncio {i}": listed(one) for i, one in enumerate(answers)}


def message_of(call) -> str:  # type: ignore[no-untyped-def]
    try:
        call()
    except InferenceServerException as error:
        return f"{error.status()} {error.message()}"
    return "no error"


if __name__ == "__main__":
    address, keyed = sys.argv[1:]
    rows = json.load(sys.stdin)
    json.dump(blocking(address, keyed, rows) | asyncio.run(awaited(address, rows)), sys.stdout)
