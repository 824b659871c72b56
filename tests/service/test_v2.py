"""The Open Inference Protocol over real HTTP: metadata, tensors in every form, refusals in its own shape."""

import asyncio
import base64
import gzip
import json
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from elbound import __version__
from elbound.errors import ElboundError
from elbound.scorer import Scorer
from service.errors import NoItemScored, QuotaExceeded
from service.http.compression import answer_encoding
from service.http.error_answers import STATUS, answer_of, on_disconnect, on_unexpected_error
from service.routes.v2_examples import infer_example
from service.scoring.score import Answer
from service.scoring.terms import Terms
from service.v2.items import TensorFacts, inputs_of
from service.v2.outputs import encode_answer
from service.v2.requests import WantedOutput
from tests.service.conftest import Server
from tests.service.test_score import picture

LENGTH = "Inference-Header-Content-Length"
TABLE_OUTPUTS = ["score", "threshold", "is_outlier", "p_value", "elbo", "reconstruction", "kl"]
DTYPES = {"FP64": "<f8", "BOOL": "?"}


def infer(server: Server, model: str, body: object, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return server.client.post(f"/v2/models/{model}/infer", content=content, headers=headers)


def tensor(name: str, datatype: str, data: object, shape: Sequence[int]) -> dict[str, object]:
    return {"name": name, "datatype": datatype, "shape": list(shape), "data": data}


def columns(table: pa.Table) -> list[dict[str, object]]:
    """A table as one input for each column, in JSON."""
    kinds = {"a": "FP64", "b": "FP64", "c": "FP64", "ok": "BOOL", "site": "BYTES"}
    n = table.num_rows
    return [tensor(name, kinds[name], table.column(name).to_pylist(), [n]) for name in table.column_names]


def binary(tensors: Mapping[str, tuple[str, Sequence[int], bytes]], **rest: object) -> tuple[bytes, dict[str, str]]:
    """The body with binary inputs, and the header that says where they begin."""
    inputs = [
        {"name": name, "datatype": datatype, "shape": list(shape), "parameters": {"binary_data_size": len(raw)}}
        for name, (datatype, shape, raw) in tensors.items()
    ]
    head = orjson.dumps({"inputs": inputs, **rest})
    return head + b"".join(raw for _, _, raw in tensors.values()), {LENGTH: str(len(head))}


def packed(cells: Sequence[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(cell)) + cell for cell in cells)


def outputs(response: httpx.Response) -> dict[str, np.ndarray]:
    """The outputs of an answer, in JSON or binary."""
    assert response.status_code == 200, response.text
    length = int(response.headers.get(LENGTH, len(response.content)))
    assert response.headers["content-type"] == (
        "application/octet-stream" if LENGTH in response.headers else "application/json"
    )
    found, raw = {}, response.content[length:]
    for output in orjson.loads(response.content[:length])["outputs"]:
        if "data" in output:
            values = np.array(output["data"], dtype=DTYPES[output["datatype"]])
        else:
            size = output["parameters"]["binary_data_size"]
            values, raw = np.frombuffer(raw[:size], DTYPES[output["datatype"]]), raw[size:]
        assert output["shape"] == [len(values)]
        found[output["name"]] = values
    assert not raw
    return found


def of_score(server: Server, model: str, rows: list[dict[str, object]] | list[list[float]]) -> dict[str, np.ndarray]:
    """What `/score` answers for the same rows, under the protocol's names."""
    answer = server.score(orjson.dumps(rows), "application/json", model=model).json()
    items = answer["items"]
    scores = {name: np.array([item["scores"][name]["value"] for item in items]) for name in items[0]["scores"]}
    return {
        "score": np.array([item["score"] for item in items]),
        "threshold": np.full(len(items), answer["verdict"]["threshold"]),
        "is_outlier": np.array([item["is_anomaly"] for item in items]),
        "p_value": np.array([item["p_value"] for item in items]),
        "elbo": -scores["negative_elbo"],
        "reconstruction": scores["reconstruction"],
        "kl": scores["kl"],
    }


def assert_same(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """Equal to the rounding that a batch of another size may cause."""
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5, err_msg=name)


def error(response: httpx.Response, status: int) -> str:
    """The message of a failure, in the protocol's own shape."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    document = response.json()
    assert list(document) == ["error"]
    assert isinstance(document["error"], str)
    return document["error"]


def test_health_and_server_metadata(server: Server) -> None:
    assert server.client.get("/v2/health/live").json() == {"live": True}
    assert server.client.get("/v2/health/ready").json() == {"ready": True}
    document = server.client.get("/v2").json()
    assert document == {
        "name": "elbound",
        "version": __version__,
        "extensions": ["binary_tensor_data", "model_repository"],
    }


def test_metadata_name_the_inputs_and_outputs_of_each_kind_of_model(server: Server, table_scorer: Scorer) -> None:
    def inputs(model: str) -> list[tuple[str, str, list[int]]]:
        document = server.client.get(f"/v2/models/{model}").json()
        assert document["outputs"][2] == {"name": "is_outlier", "datatype": "BOOL", "shape": [-1]}
        return [(one["name"], one["datatype"], one["shape"]) for one in document["inputs"]]

    assert inputs("numbers") == [("input", "FP64", [-1, 3])]
    assert inputs("pictures") == [("images", "UINT8", [-1, 12, 12, 1])]
    assert inputs("rows") == [
        ("a", "FP64", [-1]), ("b", "FP64", [-1]), ("c", "FP64", [-1]), ("ok", "BOOL", [-1]), ("site", "BYTES", [-1])
    ]  # fmt: skip
    document = server.client.get(f"/v2/models/rows/versions/{table_scorer.version}").json()
    assert document == server.client.get("/v2/models/rows").json()
    assert (document["versions"], document["platform"]) == ([table_scorer.version], "elbound")
    assert [output["name"] for output in document["outputs"]] == TABLE_OUTPUTS


def test_versions_and_readiness(server: Server, table_scorer: Scorer) -> None:
    for path in ("rows", f"rows/versions/{table_scorer.version}"):
        assert server.client.get(f"/v2/models/{path}/ready").json() == {"name": "rows", "ready": True}
    for path in ("rows/versions/1", "rows/versions/1/ready", "nothing", "nothing/ready"):
        error(server.client.get(f"/v2/models/{path}"), 404)
    found = server.client.post("/v2/models/rows/versions/1/infer", content=b"{}")
    assert error(found, 404) == f"rows has no version '1'; served is {table_scorer.version}"


def test_one_tensor_scores_as_rows_do(server: Server, normal_rows: pa.Table) -> None:
    x = np.array([[row["a"], row["b"], row["c"]] for row in normal_rows.to_pylist()[:40]], dtype=np.float64)
    expected = of_score(server, "numbers", [[None if value != value else value for value in row] for row in x.tolist()])
    request = {"inputs": [tensor("input", "FP64", [None if v != v else v for v in x.ravel().tolist()], x.shape)]}
    assert_same(outputs(infer(server, "numbers", request)), expected)
    nested = {"inputs": [tensor("any name", "FP64", orjson.loads(orjson.dumps(x.tolist())), x.shape)]}
    assert_same(outputs(infer(server, "numbers", nested)), expected)
    body, headers = binary(
        {"input": ("FP64", x.shape, x.astype("<f8").tobytes())}, parameters={"binary_data_output": True}
    )
    assert_same(outputs(infer(server, "numbers", body, **headers)), expected)


def test_one_input_for_each_column_scores_as_rows_do(server: Server, normal_rows: pa.Table) -> None:
    table = normal_rows.slice(0, 30)
    expected = of_score(server, "rows", table.to_pylist())
    assert_same(outputs(infer(server, "rows", {"inputs": columns(table)})), expected)
    site = [(value or "").encode() for value in table.column("site").to_pylist()]
    numbers = {name: table.column(name).to_numpy() for name in "abc"}
    body, headers = binary(
        {
            "site": ("BYTES", [30, 1], packed(site)),  # an empty text is a missing cell
            "ok": ("BOOL", [30], np.array(table.column("ok").to_pylist()).tobytes()),
            **{name: ("FP64", [30], values.tobytes()) for name, values in numbers.items()},  # NaN is one too
        }
    )
    assert_same(outputs(infer(server, "rows", body, **headers)), expected)
    without = [one for one in columns(table) if one["name"] != "b"]
    expected = of_score(server, "rows", table.drop_columns(["b"]).to_pylist())
    assert_same(outputs(infer(server, "rows", {"inputs": without})), expected)


@pytest.mark.parametrize(
    "datatype",
    ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "BF16"],
)
def test_every_datatype_in_json_and_binary(server: Server, datatype: str) -> None:
    values = [[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]]
    expected = of_score(server, "numbers", values)
    cells = [bool(v) if datatype == "BOOL" else v if "F" in datatype else int(v) for row in values for v in row]
    assert_same(outputs(infer(server, "numbers", {"inputs": [tensor("input", datatype, cells, [2, 3])]})), expected)
    if datatype == "BF16":
        raw = (np.array(values, "<f4").view("<u4") >> 16).astype("<u2").tobytes()
    else:
        kinds = {"BOOL": "?", "FP16": "<f2", "FP32": "<f4"}
        kind = kinds.get(datatype) or f"<{'u' if datatype[0] == 'U' else 'i'}{int(datatype.lstrip('UINT')) // 8}"
        raw = np.array(values).astype(kind).tobytes()
    body, headers = binary({"input": (datatype, [2, 3], raw)})
    assert_same(outputs(infer(server, "numbers", body, **headers)), expected)


def test_images_as_pixels_and_as_files(server: Server, image_scorer: Scorer) -> None:
    pixels = np.arange(3 * 144, dtype=np.uint8).reshape(3, 12, 12)
    scored = image_scorer.score_tensor(image_scorer.to_tensor(pixels).only())
    files = [picture(one) for one in pixels]
    bodies = [
        binary({"images": ("UINT8", [3, 12, 12, 1], pixels.tobytes())}),
        binary({"images": ("BYTES", [3], packed(files))}),
        (orjson.dumps({"inputs": [tensor("images", "UINT8", pixels[..., None].tolist(), [3, 12, 12, 1])]}), {}),
        (orjson.dumps({"inputs": [tensor("images", "BYTES", [_base64(one) for one in files], [3, 1])]}), {}),
    ]
    for body, headers in bodies:
        found = outputs(infer(server, "pictures", body, **headers))
        np.testing.assert_allclose(found["score"], scored.score, rtol=1e-5)
        np.testing.assert_array_equal(found["p_value"], scored.p_value)
    body, headers = binary({"images": ("BYTES", [2], packed([files[0], b"no"]))})
    message = error(infer(server, "pictures", body, **headers), 400)
    assert message.startswith("item 1 of 2 cannot be scored: not an image")
    short = tensor("images", "UINT8", [0] * 100, [1, 10, 10, 1])
    assert "expected an array of shape ('n', 12, 12)" in error(infer(server, "pictures", {"inputs": [short]}), 422)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_outputs_are_selected_and_ids_come_back(server: Server) -> None:
    request = {
        "id": "früh-7",
        "inputs": [tensor("input", "FP64", [1, 2, 3], [1, 3])],
        "outputs": [{"name": "is_outlier", "parameters": {"binary_data": True}}, {"name": "kl"}],
    }
    response = infer(server, "numbers", request)
    length = int(response.headers[LENGTH])
    document = orjson.loads(response.content[:length])
    assert (document["id"], document["model_name"]) == ("früh-7", "numbers")
    assert [(one["name"], one.get("parameters")) for one in document["outputs"]] == [
        ("is_outlier", {"binary_data_size": 1}), ("kl", None)
    ]  # fmt: skip
    assert list(outputs(response)) == ["is_outlier", "kl"]
    plain = infer(server, "numbers", {"inputs": request["inputs"]}).json()
    assert "id" not in plain
    assert [one["name"] for one in plain["outputs"]] == TABLE_OUTPUTS


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity"])
def test_requests_and_answers_are_compressed(server: Server, encoding: str) -> None:
    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}[encoding]
    x = np.linspace(0, 1, 300).reshape(100, 3)
    body, headers = binary({"input": ("FP64", x.shape, x.tobytes())})
    response = infer(
        server, "numbers", pack(body), **headers, **{"Content-Encoding": encoding, "Accept-Encoding": encoding}
    )
    assert response.headers.get("content-encoding", "identity") == encoding
    assert_same(outputs(response), of_score(server, "numbers", x.tolist()))


def test_expansion_is_bounded(server: Server) -> None:
    for pack, encoding in ((gzip.compress, "gzip"), (zlib.compress, "deflate")):
        response = infer(server, "numbers", pack(b" " * 5_000_000), **{"Content-Encoding": encoding})
        assert "opens to more than 4,000,000 bytes" in error(response, 413)
        message = error(infer(server, "numbers", pack(b"{}" * 99)[:-6], **{"Content-Encoding": encoding}), 400)
        assert message == f"the {encoding} body is truncated"
    assert "is not read" in error(infer(server, "numbers", b"x", **{"Content-Encoding": "br"}), 415)


def test_items_that_cannot_be_scored_refuse_the_request_and_are_counted(server: Server, numeric_scorer: Scorer) -> None:
    labels = f'model_name="numbers",model_version="{numeric_scorer.version}",reason="cell_invalid"'
    before = server.metric(f"elbound_items_rejected_total{{{labels}}}")
    body, headers = binary({"input": ("FP64", [2, 3], np.array([[1, 2, 3], [1, np.inf, 3]]).tobytes())})
    message = error(infer(server, "numbers", body, **headers), 400)
    assert message == (
        "item 1 of 2 cannot be scored: column 'b' must be finite (write a missing cell as null). Got 'inf' instead"
    )
    assert server.metric(f"elbound_items_rejected_total{{{labels}}}") == before + 1


@pytest.mark.parametrize("in_json", [True, False])
def test_a_text_beyond_max_cell_bytes_is_named(server: Server, normal_rows: pa.Table, in_json: bool) -> None:
    inputs = columns(normal_rows.slice(0, 2))
    site, sites = next(one for one in inputs if one["name"] == "site"), ["north", "x" * 65_537]
    raw = b""
    if in_json:
        site["data"] = sites
    else:
        raw = packed([one.encode() for one in sites])
        del site["data"]
        site["parameters"] = {"binary_data_size": len(raw)}
    head = orjson.dumps({"inputs": inputs})
    headers = {} if in_json else {"inference-header-content-length": str(len(head))}
    message = error(infer(server, "rows", head + raw, **headers), 400)
    assert "item 1 of 2" in message
    assert "'site' has a cell of 65,537 bytes" in message


def test_nested_parameters_are_bounded(server: Server) -> None:
    deep = b'{"inputs": [], "parameters": ' + b'{"a":' * 32 + b"1" + b"}" * 33
    assert "max_json_depth" in error(infer(server, "numbers", deep), 413)


def test_an_inference_is_counted_as_any_request(server: Server, numeric_scorer: Scorer) -> None:
    route = 'method="POST",route="/v2/models/{name}/infer",status="200"'
    labels = f'model_name="numbers",model_version="{numeric_scorer.version}"'

    def counts() -> list[float]:
        verdicts = [
            server.metric(f'elbound_items_scored_total{{{labels},verdict="{one}"}}') for one in ("normal", "anomaly")
        ]
        drift = server.client.get("/models/numbers/drift").json()["scores"]
        return [server.metric(f"elbound_requests_total{{{route}}}"), sum(verdicts), drift]

    before = counts()
    outputs(infer(server, "numbers", {"inputs": [tensor("input", "INT8", [1, 2, 3] * 4, [4, 3])]}))
    assert [now - then for now, then in zip(counts(), before, strict=True)] == [1, 4, 4]


GOOD = tensor("input", "FP64", [1, 2, 3], [1, 3])
ONE = {"name": "input", "datatype": "FP64", "shape": [1, 3]}
BROKEN: dict[str, tuple[object, int, str]] = {
    "no JSON": (b"{", 400, "not JSON"),
    "too deep": (b"[" * 10_000, 413, "max_json_depth"),
    "a list": ([], 400, "the body must be a JSON object"),
    "no inputs": ({}, 400, "needs inputs"),
    "inputs that are none": ({"inputs": {"a": 1}}, 400, "inputs must be a list"),
    "an input that is none": ({"inputs": [3]}, 400, "an input must be a JSON object"),
    "no name": ({"inputs": [{**GOOD, "name": 3}]}, 400, "needs a string as its name"),
    "no datatype": ({"inputs": [{**GOOD, "datatype": "FP8"}]}, 400, "datatype 'FP8'; known are BOOL"),
    "no shape": ({"inputs": [{**GOOD, "shape": None}]}, 400, "needs a shape of 1 to 4 sides"),
    "a shape of floats": ({"inputs": [{**GOOD, "shape": [1.0, 3]}]}, 400, "whole numbers of at least 1"),
    "no items": ({"inputs": [{**GOOD, "shape": [0, 3], "data": []}]}, 400, "whole numbers of at least 1"),
    "a shape beyond all": ({"inputs": [{**GOOD, "shape": [1, 2**53, 2**53]}]}, 413, "bytes when decoded"),
    "too many rows": ({"inputs": [{**GOOD, "shape": [5_001, 3]}]}, 413, "5,001 rows; at most 5,000"),
    "too many columns": ({"inputs": [GOOD] * 51}, 413, "51 columns; at most 50"),
    "no data": ({"inputs": [ONE]}, 400, "needs a list under 'data'"),
    "too few data": ({"inputs": [{**GOOD, "data": [1, 2]}]}, 400, "has 3 elements. Got 2 instead"),
    "ragged data": ({"inputs": [{**GOOD, "data": [[1, 2], [3]], "shape": [2, 2]}]}, 400, "not nested as its shape"),
    "mixed nesting": ({"inputs": [{**GOOD, "data": [[1], 2], "shape": [2, 1]}]}, 400, "not nested as its shape"),
    "text for numbers": ({"inputs": [{**GOOD, "data": [1, 2, "3"]}]}, 400, "must hold numbers. Got a string instead"),
    "half a whole number": ({"inputs": [{**GOOD, "datatype": "INT8", "data": [1, 2, 0.5]}]}, 400, "whole numbers"),
    "too large": ({"inputs": [{**GOOD, "datatype": "UINT8", "data": [1, 2, 256]}]}, 400, "that UINT8 cannot"),
    "a number for text": ({"inputs": [{**GOOD, "datatype": "BYTES"}]}, 400, "must hold strings. Got a number"),
    "text for all columns": ({"inputs": [{**GOOD, "datatype": "BYTES", "data": ["1"] * 3}]}, 422, "Got BYTES instead"),
    "beyond FP32": ({"inputs": [{**GOOD, "datatype": "FP32", "data": [1, 1e300, 3]}]}, 400, "'b' must be finite"),
    "an input twice": ({"inputs": [tensor("a", "FP64", [1], [1])] * 2}, 400, "inputs are given twice: 'a'"),
    "a wrong width": ({"inputs": [{**GOOD, "data": [1, 2], "shape": [1, 2]}]}, 422, "(n, 3), but got (1, 2)"),
    "a missing column": ({"inputs": [tensor("a", "FP64", [1], [1])]}, 422, "missing: 'c'"),
    "columns of other lengths": (
        {"inputs": [tensor("a", "FP64", [1], [1]), tensor("c", "FP64", [1, 2], [2])]}, 422, "shape (1,) or (1, 1)"
    ),
    "shared memory": ({"inputs": [{**ONE, "parameters": {"shared_memory_region": "r"}}]}, 400, "is not offered"),
    "classification": (
        {"inputs": [GOOD], "outputs": [{"name": "kl", "parameters": {"classification": 1}}]}, 400, "is not offered"
    ),
    "an unknown output": ({"inputs": [GOOD], "outputs": [{"name": "loss"}]}, 400, "no output 'loss'; it has score,"),
    "an output twice": ({"inputs": [GOOD], "outputs": [{"name": "kl"}] * 2}, 400, "outputs are given twice: 'kl'"),
    "no flag": ({"inputs": [GOOD], "parameters": {"binary_data_output": 1}}, 400, "must be true or false"),
    "an id that is no text": ({"inputs": [GOOD], "id": 7}, 400, "needs a string as its id"),
    "a size without binary data": ({"inputs": [{**ONE, "parameters": {"binary_data_size": 24}}]}, 400, "24; 0 bytes"),
    "a deadline that has passed": ({"inputs": [GOOD], "parameters": {"timeout": 1}}, 504, "deadline"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_request_is_refused_in_the_shape_of_the_protocol(server: Server, case: str) -> None:
    body, status, message = BROKEN[case]
    assert message in error(infer(server, "numbers", body), status)


def test_broken_binary_data_are_refused(server: Server) -> None:
    raw = np.ones(3).tobytes()
    whole, length = binary({"input": ("FP64", [1, 3], raw)})
    texts, of_texts = binary({"site": ("BYTES", [2], packed([b"north", b"south"]))})
    double = [{**ONE, "data": [1, 2, 3], "parameters": {"binary_data_size": 24}}]
    cases = [
        (whole, {LENGTH: "x"}, "must be a whole number"),
        (whole, {LENGTH: "9999"}, "the body has"),
        (whole, {LENGTH: "5"}, "not JSON"),
        (whole[:-1], length, "24; 23 bytes are left"),
        (whole + b"!", length, "1 bytes follow"),
        (*binary({"input": ("FP64", [2, 3], raw)}), "has 48 bytes. Got 24 instead"),
        (texts[:-9] + b"\xff\0\0\0" + texts[-5:], of_texts, "hold 1 of them"),
        (*binary({"site": ("BYTES", [1], packed([b"north"]) + b"\1")}), "hold 1 of them"),
        (*binary({"site": ("BYTES", [1], packed([b"a", b"b"]))}), "hold 1 of them"),
        (*binary({"site": ("BYTES", [1], b"\1\0")}), "hold 0 of them"),
        (*binary({"site": ("BYTES", [1], packed([b"\xff"]))}), "row 0 is not UTF-8"),
        (orjson.dumps({"inputs": double}), {}, "both data and binary_data_size"),
    ]
    for body, headers, message in cases:
        assert message in error(infer(server, "rows", body, **headers), 400)


def test_every_failure_below_v2_has_its_shape_and_no_other(server: Server) -> None:
    client = server.client
    assert "there is no model 'x'" in error(infer(server, "x", {}), 404)
    error(client.get("/v2/models/rows/config"), 404)
    error(client.get("/v2/"), 404)
    error(client.get("/v2/models/rows/infer"), 405)
    error(infer(server, "numbers", b" " * 2_000_001), 413)
    error(client.get("/v2/" + "x" * 9_000), 414)
    error(client.get("/v2", headers={"x": "y" * 40_000}), 431)
    error(infer(server, "numbers", {}, **{"X-Request-Deadline-Ms": "soon"}), 400)
    error(client.post("/v2/models/numbers/infer?alpha=0.1", content=b"{}"), 400)
    for path in ("/v22", "/v", "/models/x"):
        assert client.get(path).json()["error"].keys() == {"code", "message", "where"}


def test_the_repository_lists_models_and_takes_no_parameters(server: Server, table_scorer: Scorer) -> None:
    def post(path: str, body: object = None) -> httpx.Response:
        return server.client.post(f"/v2/repository/{path}", content=b"" if body is None else orjson.dumps(body))

    for body in (None, {}, {"ready": True}):
        entries = {one.pop("name"): one for one in post("index", body).json()}
        assert entries.keys() == {"rows", "numbers", "pictures"}
        assert entries["rows"] == {"version": table_scorer.version, "state": "READY", "reason": ""}
    assert "must be true or false" in error(post("index", {"ready": 1}), 400)
    assert "must be a JSON object" in error(post("index", [1]), 400)
    assert "'admin'" in error(post("models/rows/load"), 403)


def test_without_a_store_nothing_is_loaded_or_unloaded(
    start: Callable[..., Server], key_file: Callable[..., Path], table_bundle: Path
) -> None:
    server = start(table_bundle, api_keys_file=key_file(a={"scopes": ["admin"]}))

    def post(path: str, body: object = None) -> httpx.Response:
        content = b"" if body is None else orjson.dumps(body)
        return server.client.post(f"/v2/repository/{path}", content=content, headers={"authorization": "Bearer a"})

    for parameters in ({"config": "{}"}, {"file:1/model.bin": "AA=="}, {"config": None}, [1], None, []):
        for action in ("load", "unload"):
            assert "take no parameters" in error(post(f"models/rows/{action}", {"parameters": parameters}), 400)
    assert "no store" in error(post("models/rows/load", {}), 409)
    assert "no store" in error(post("models/rows/unload", {"parameters": {"unload_dependents": False}}), 409)
    error(post("models/x/load"), 404)
    error(post("models/rows/load", {"parameters": {"file:a": "A" * 20_000}}), 413)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = {
    "name": st.sampled_from(["a", "c", "input", ""]) | JSON,
    "datatype": st.sampled_from(["FP64", "BYTES", "INT8", "BOOL"]) | JSON,
    "shape": st.lists(st.integers(-1, 3), max_size=5) | JSON,
    "data": st.lists(st.integers(-200, 200) | st.none() | st.text(max_size=3), max_size=6) | JSON,
    "parameters": st.dictionaries(st.just("binary_data_size"), st.integers(-1, 40)) | JSON,
}
REQUESTS = st.fixed_dictionaries(
    {"inputs": st.lists(st.fixed_dictionaries({}, optional=FIELDS) | JSON, max_size=3) | JSON},
    optional={"id": JSON, "outputs": JSON, "parameters": JSON},
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    document=REQUESTS, raw=st.binary(max_size=40), cut=st.integers(0, 30), model=st.sampled_from(["rows", "numbers"])
)
def test_no_request_is_a_fault_of_ours(server: Server, document: object, raw: bytes, cut: int, model: str) -> None:
    head = json.dumps(document).encode()  # whole numbers of any size
    response = infer(server, model, head + raw, **({LENGTH: str(len(head) - max(0, cut - 25))} if raw else {}))
    if response.status_code != 200:
        assert response.status_code in (400, 413, 422)
        error(response, response.status_code)


@pytest.mark.parametrize("kind", STATUS, ids=lambda kind: kind.__name__)
def test_every_error_of_ours_has_the_shape_of_the_protocol(kind: type[ElboundError]) -> None:
    more = {NoItemScored: {"where": None, "items": []}, QuotaExceeded: {"retry_after_s": 2}}
    facts: dict[str, Any] = more.get(kind, {})
    error_ = kind("what went wrong", **facts)
    plain, shaped = answer_of(error_), answer_of(error_, "/v2/models/rows/infer")
    assert orjson.loads(shaped.body) == {"error": "what went wrong"}
    assert shaped.status_code == plain.status_code
    assert shaped.headers.keys() == plain.headers.keys()


def test_a_fault_of_ours_is_told_in_the_shape_of_the_protocol() -> None:
    request = Request({"type": "http", "path": "/v2"})
    for answer in (on_unexpected_error(request, ValueError()), on_disconnect(request, ValueError())):
        document = orjson.loads(asyncio.run(answer).body)
        assert isinstance(document["error"], str)


def test_a_threshold_that_does_not_resolve_is_infinite(numeric_scorer: Scorer) -> None:
    items = numeric_scorer.to_tensor(np.ones((2, 3)))
    answer = Answer(numeric_scorer, items, numeric_scorer.score_items(items), Terms(1e-6))
    encoded = encode_answer(
        answer, [WantedOutput("threshold", binary=False), WantedOutput("is_outlier", binary=False)], None
    )
    assert [one["data"] for one in orjson.loads(encoded.body)["outputs"]] == [[None, None], [False, False]]
    encoded = encode_answer(answer, [WantedOutput("threshold", binary=True)], None)
    assert np.isposinf(np.frombuffer(encoded.body[encoded.header_length :])).all()


def test_a_column_that_only_groups_is_an_input_more(numeric_scorer: Scorer) -> None:
    schema = numeric_scorer.schema.model_copy(update={"group_by": "line"})
    assert [facts.name for facts in inputs_of(schema)] == ["a", "b", "c", "line"]
    assert {facts.shape for facts in inputs_of(schema)} == {(-1,)}
    feature = numeric_scorer.schema.model_copy(update={"group_by": "c"})
    assert inputs_of(feature) == inputs_of(numeric_scorer.schema) == [TensorFacts("input", "FP64", (-1, 3))]


@pytest.mark.parametrize(
    ("asked", "encoding"),
    [
        (None, None), ("", None), ("br", None), ("gzip", "gzip"), ("deflate, GZIP;q=0.5", "gzip"),
        ("gzip;q=0, deflate", "deflate"), ("deflate", "deflate"), ("gzip; q = 0.000", None), ("identity, *", None),
    ],
)  # fmt: skip
def test_an_answer_is_compressed_as_it_is_asked_for(asked: str | None, encoding: str | None) -> None:
    assert answer_encoding(asked) == encoding


def test_the_document_names_a_model_and_has_a_request_that_it_answers(server: Server) -> None:
    document = server.client.get("/openapi.json").json()
    post = document["paths"]["/v2/models/{name}/versions/{version}/infer"]["post"]
    known = {one["name"]: one["example"] for one in post["parameters"] if one["in"] == "path"}
    answer = server.client.post(
        "/v2/models/{name}/versions/{version}/infer".format(**known),
        json=post["requestBody"]["content"]["application/json"]["example"],
    )
    assert len(outputs(answer)["is_outlier"]) == 2
    assert post["responses"]["200"]["content"].keys() == {"application/json", "application/octet-stream"}


@pytest.mark.parametrize("name", ["rows", "numbers", "pictures"])
def test_an_example_is_answered(server: Server, request: pytest.FixtureRequest, name: str) -> None:
    scorer = request.getfixturevalue({"rows": "table", "numbers": "numeric", "pictures": "image"}[name] + "_scorer")
    outputs(infer(server, name, infer_example(scorer)))
