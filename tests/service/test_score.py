"""`POST /score` over real HTTP: every format, every answer, every refusal."""

import gzip
import io
import json
import zipfile

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
import pytest
from PIL import Image

from elbound.scorer import Scorer

ROWS, PICTURES, NUMBERS = {"model": "rows"}, {"model": "pictures"}, {"model": "numbers"}
PILLOW = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP", "image/bmp": "BMP", "image/tiff": "TIFF"}


def encode(table: pa.Table, media_type: str) -> bytes:
    sink = pa.BufferOutputStream()
    match media_type:
        case "application/json":
            return orjson.dumps({"rows": table.to_pylist()})
        case "application/x-ndjson":
            return b"".join(orjson.dumps(row) + b"\n" for row in table.to_pylist())
        case "text/csv":
            pyarrow.csv.write_csv(table, sink)
        case "application/vnd.apache.parquet":
            pyarrow.parquet.write_table(table, sink)
        case "application/vnd.apache.arrow.stream":
            with pyarrow.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
    return sink.getvalue().to_pybytes()


TABLES = [
    "application/json",
    "application/x-ndjson",
    "text/csv",
    "application/vnd.apache.parquet",
    "application/vnd.apache.arrow.stream",
]


def picture(array: np.ndarray, name: str = "PNG") -> bytes:
    packed = io.BytesIO()
    Image.fromarray(array).save(packed, name)
    return packed.getvalue()


def npy(array: np.ndarray) -> bytes:
    packed = io.BytesIO()
    np.save(packed, array)
    return packed.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return packed.getvalue()


def values(answer: dict, score: str = "negative_elbo") -> np.ndarray:
    return np.array([item["scores"][score]["value"] for item in answer["items"]])


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    assert (np.abs(found - expected) <= 1e-5 * np.maximum(np.abs(expected), 1)).all()


@pytest.mark.parametrize("media_type", TABLES)
def test_each_format_gives_the_scores_of_the_library(server, table_scorer: Scorer, normal_rows, media_type) -> None:
    response = server.score(encode(normal_rows, media_type), media_type, **ROWS)
    assert response.status_code == 200
    answer = response.json()
    expected = table_scorer.score_tensor(table_scorer.to_tensor(normal_rows).only())
    for name in expected.scores:
        assert_close(values(answer, name), expected.scores[name])
        p_values = [item["scores"][name]["p_value"] for item in answer["items"]]
        np.testing.assert_allclose(p_values, expected.p_values[name], atol=1.01 / (answer["n_calibration"] + 1))


def test_the_shape_of_the_answer(server, table_scorer: Scorer, normal_rows) -> None:
    odd = {**normal_rows.slice(0, 1).to_pylist()[0], "a": 40.0}
    answer = server.score(orjson.dumps([odd, normal_rows.to_pylist()[1]]), "application/json", **ROWS).json()
    assert list(answer) == [
        "model", "alpha", "guarantee", "decided_by", "n_calibration", "resolvable", "smallest_alpha", "warning",
        "realised_rate", "verdict", "scores", "items", "summary",
    ]  # fmt: skip
    assert answer["model"] == {"name": "rows", "version": table_scorer.version}
    assert answer["alpha"] == 0.05
    assert answer["n_calibration"] == table_scorer.calibration.n
    assert answer["verdict"] == {"rule": "fused", "threshold": table_scorer.calibration.verdict.threshold(0.05)}
    assert {name: facts["unit"] for name, facts in answer["scores"].items()} == table_scorer.detector.units
    item = answer["items"][0]
    assert item["is_anomaly"] is True
    assert item["fired"] in {name for group in table_scorer.manifest.verdict.groups for name in group}
    assert item["p_value"] == pytest.approx(1 / (answer["n_calibration"] + 1))
    assert item["severity"] > 1
    assert item["score"] > answer["verdict"]["threshold"]
    assert answer["items"][1]["fired"] is None
    assert answer["summary"] == {"items": 2, "scored": 2, "anomalies": 1, "errors": 0, "unseen_categories": {}}


def test_layout_columns_says_the_same(server, normal_rows) -> None:
    rows = [*normal_rows.slice(0, 3).to_pylist(), {"a": "no"}]
    body = orjson.dumps(rows)
    by_item = server.score(body, "application/json", **ROWS).json()
    by_column = server.score(body, "application/json", layout="columns", **ROWS).json()
    columns = by_column.pop("columns")
    items = by_item.pop("items")
    assert by_column == by_item
    for field in ("index", "name", "is_anomaly", "p_value", "severity", "score", "fired", "error"):
        assert columns[field] == [item.get(field) for item in items]
    assert columns["scores"]["kl"]["value"][:3] == [item["scores"]["kl"]["value"] for item in items[:3]]
    assert columns["scores"]["kl"]["value"][3] is None


def test_alpha_belongs_to_the_request(server, normal_rows) -> None:
    body = encode(normal_rows, "text/csv")
    counts = {}
    for alpha in (0.01, 0.05, 0.3):
        answer = server.score(body, "text/csv", alpha=alpha, **ROWS).json()
        assert answer["alpha"] == alpha
        p_values = [item["p_value"] for item in answer["items"]]
        counts[alpha] = answer["summary"]["anomalies"]
        assert counts[alpha] == sum(p <= alpha for p in p_values) == sum(i["is_anomaly"] for i in answer["items"])
        assert all((item["severity"] > 1) == item["is_anomaly"] for item in answer["items"])
    assert counts[0.01] <= counts[0.05] < counts[0.3]


def test_alpha_that_does_not_resolve_is_said(server, normal_rows) -> None:
    answer = server.score(encode(normal_rows, "text/csv"), "text/csv", alpha=1e-6, **ROWS).json()
    assert answer["resolvable"] is False
    assert answer["warning"].startswith("at alpha = 1e-06 nothing can ever be an anomaly: ")
    assert answer["verdict"]["threshold"] is None
    assert answer["smallest_alpha"] == pytest.approx(1 / (answer["n_calibration"] + 1))
    assert answer["summary"]["anomalies"] == 0
    assert all(item["severity"] is None for item in answer["items"])


@pytest.mark.parametrize("form", ["list of objects", "list of arrays", "rows", "one row"])
def test_json_rows_in_every_form(server, table_scorer: Scorer, normal_rows, form) -> None:
    row = normal_rows.to_pylist()[0]
    documents = {
        "list of objects": [row],
        "list of arrays": [list(row.values())],
        "rows": {"rows": [row]},
        "one row": row,
    }
    answer = server.score(orjson.dumps(documents[form]), "application/json", **ROWS).json()
    assert_close(values(answer), table_scorer.raw_scores(table_scorer.to_tensor([row]).only())[:, 0])


def test_npy_of_numbers_and_of_images(server, numeric_scorer: Scorer, image_scorer: Scorer, normal_rows) -> None:
    array = np.stack([normal_rows[name].to_numpy() for name in ("a", "b", "c")], 1)
    answer = server.score(npy(array), "application/x-npy", **NUMBERS).json()
    assert_close(values(answer), numeric_scorer.raw_scores(numeric_scorer.to_tensor(array).only())[:, 0])
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 12), dtype=np.uint8)
    answer = server.score(npy(images), "application/x-npy", **PICTURES).json()
    assert_close(values(answer), image_scorer.raw_scores(image_scorer.to_tensor(images).only())[:, 0])


@pytest.mark.parametrize("media_type", PILLOW)
def test_one_image_of_each_format(server, image_scorer: Scorer, media_type) -> None:
    data = picture(np.random.default_rng(0).integers(0, 256, (20, 16), dtype=np.uint8), PILLOW[media_type])
    answer = server.score(data, media_type, **PICTURES).json()
    assert_close(values(answer), image_scorer.raw_scores(image_scorer.images_to_tensor([data]).only())[:, 0])


def test_a_zip_keeps_its_names_and_a_broken_member_is_one_error(server) -> None:
    good = picture(np.random.default_rng(0).integers(0, 256, (12, 12), dtype=np.uint8))
    files = {"a/1.png": good, "a/broken.png": good[:100], "notes.txt": b"no image", "b.png": good}
    answer = server.score(zipped(files), "application/zip", **PICTURES).json()
    assert [item["name"] for item in answer["items"]] == ["a/1.png", "a/broken.png", "b.png"]
    assert answer["items"][1]["error"]["where"] == "a/broken.png"
    assert answer["items"][0]["scores"] == answer["items"][2]["scores"]
    assert answer["summary"]["errors"] == 1


def test_a_form_with_several_files(server) -> None:
    good = picture(np.full((12, 12), 7, np.uint8))
    files = [
        ("files", ("a.png", good, "image/png")),
        ("files", ("notes.txt", b"no image", "text/plain")),
        ("files", ("b", good, "application/octet-stream")),
        ("files", ("c.png", good, "application/octet-stream")),
        ("files", ("d.zip", zipped({"x.png": good}), "application/zip")),
    ]
    response = server.client.post("/score", files=files, params=PICTURES)
    answer = response.json()
    assert response.status_code == 200
    assert [item["name"] for item in answer["items"]] == ["a.png", "notes.txt", "b", "c.png", "x.png"]
    assert [item["index"] for item in answer["items"] if "error" in item] == [1, 2]
    assert answer["items"][1]["error"]["code"] == "unsupported_media_type"


def test_a_form_of_tables(server, normal_rows) -> None:
    part = normal_rows.slice(0, 3)
    files = [
        ("files", ("a.csv", encode(part, "text/csv"), "text/csv")),
        ("files", ("b.parquet", encode(part, "application/vnd.apache.parquet"), "application/octet-stream")),
        ("files", ("bad.csv", b"x,y\n1,2\n", "text/csv")),
    ]
    answer = server.client.post("/score", files=files, params=ROWS).json()
    assert [item["name"] for item in answer["items"]] == [
        *(f"a.csv:{i}" for i in range(3)), *(f"b.parquet:{i}" for i in range(3)), "bad.csv",
    ]  # fmt: skip
    assert answer["items"][6]["error"]["code"] == "schema_mismatch"
    assert_close(values({"items": answer["items"][:3]}), values({"items": answer["items"][3:6]}))


def test_one_bad_row_costs_one_row(server, normal_rows) -> None:
    good = normal_rows.to_pylist()[0]
    rows = [
        good,
        {**good, "a": "high"},
        {**good, "b": None},
        {**good, "ok": "perhaps"},
        {**good, "a": [1]},
        {name: cell for name, cell in good.items() if name != "c"},
        {**good, "colour": "red"},
        {name: cell for name, cell in good.items() if name != "b"},
        {**good, "site": "west"},
        ["too", "short"],
        17,
    ]
    answer = server.score(orjson.dumps(rows), "application/json", **ROWS).json()
    errors = {item["index"]: item["error"] for item in answer["items"] if "error" in item}
    assert sorted(errors) == [1, 3, 4, 5, 6, 9, 10]
    assert errors[1]["message"] == "column 'a' must be a number. Got 'high' instead"
    assert errors[1]["where"] == "a"
    assert "missing: 'c'" in errors[5]["message"]
    assert "unknown: 'colour'" in errors[6]["message"]
    assert answer["summary"]["unseen_categories"] == {"site": 1}
    novel = answer["items"][8]["scores"]["reconstruction"]["value"]
    assert novel > answer["items"][0]["scores"]["reconstruction"]["value"] + 2


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
@pytest.mark.parametrize("media_type", TABLES)
def test_a_text_beyond_max_cell_bytes_costs_its_row(server, normal_rows, media_type, accept) -> None:
    rows = normal_rows.slice(0, 3)
    sites = [rows["site"][0].as_py(), "x" * 65_537, "x" * 65_536]
    body = encode(rows.set_column(4, "site", pa.array(sites)), media_type)
    headers = {"content-type": media_type, "accept": accept}
    response = server.client.post("/score", content=body, headers=headers, params=ROWS)
    assert response.status_code == 200
    items = (
        response.json()["items"] if accept == "application/json" else list(map(json.loads, response.text.splitlines()))
    )
    items = [item for item in items if "index" in item]
    assert [item.get("error", {}).get("code") for item in items] == [None, "limit_exceeded", None]
    assert "'site' has a cell of 65,537 bytes; at most 65,536" in items[1]["error"]["message"]


def test_infinity_is_an_error_of_its_row_and_nan_in_parquet_is_missing(server, normal_rows) -> None:
    rows = normal_rows.slice(0, 3)
    table = rows.set_column(0, "a", pa.array([1.0, float("inf"), float("nan")]))
    answer = server.score(
        encode(table, "application/vnd.apache.parquet"), "application/vnd.apache.parquet", **ROWS
    ).json()
    assert "must be finite" in answer["items"][1]["error"]["message"]
    assert answer["summary"] | {"anomalies": 0} == {
        "items": 3, "scored": 2, "anomalies": 0, "errors": 1, "unseen_categories": {},
    }  # fmt: skip


def test_a_ragged_csv_row_is_an_error_at_its_place(server, normal_rows) -> None:
    lines = encode(normal_rows.slice(0, 4), "text/csv").splitlines()
    lines[2] += b",extra"
    answer = server.score(b"\n".join(lines), "text/csv", **ROWS).json()
    assert [("error" in item) for item in answer["items"]] == [False, True, False, False]
    assert answer["items"][1]["error"]["code"] == "row_ragged"


def test_gzip_bodies(server, normal_rows) -> None:
    body = encode(normal_rows, "text/csv")
    packed = server.client.post(
        "/score",
        content=gzip.compress(body),
        headers={"content-type": "text/csv", "content-encoding": "gzip"},
        params=ROWS,
    )
    assert packed.json()["items"] == server.score(body, "text/csv", **ROWS).json()["items"]


BOMB = gzip.compress(b"a,b,c\n" + b"1,2,3\n" * 2_000_000)


def big_png() -> bytes:
    return picture(np.zeros((1100, 1000), np.uint8))


REFUSALS = [
    # body, content type, query, status, code, a part of the message
    (b"", "application/json", ROWS, 400, "body_empty", "empty"),
    (b"", "image/png", PICTURES, 400, "body_empty", "empty"),
    (b"{", "application/json", ROWS, 400, "json_invalid", "not JSON"),
    (b'[{"a": NaN}]', "application/json", ROWS, 400, "json_invalid", "row 0: NaN is not JSON, write null"),
    (
        b'{"rows": [[1], {"a": 1}, [2, -Infinity, NaN]]}',
        "application/json",
        ROWS,
        400,
        "json_invalid",
        "row 2: -Infinity is not JSON, write null",
    ),
    (b'{"a": NaN, "b": 1}', "application/json", ROWS, 400, "json_invalid", "not JSON: write null for NaN"),
    (b"[" + b"[1, 2, 3]," * 2_999 + b"[1, 2, NaN]]", "application/json", NUMBERS, 400, "json_invalid", "row 2999: NaN"),
    (b"17", "application/json", ROWS, 400, "decode_failed", "list of rows"),
    (b"[]", "application/json", ROWS, 422, "no_item_scored", "no items"),
    (b"[" * 10_000, "application/json", ROWS, 413, "limit_exceeded", "max_json_depth"),
    (b'[[1,2,3,true,"x"]]', "application/x-www-form-urlencoded", ROWS, 415, "unsupported_media_type", "text/csv"),
    (b"x", "", ROWS, 415, "unsupported_media_type", "no Content-Type"),
    (b"a,b\n1,2\n", "text/csv", ROWS, 422, "schema_mismatch", "missing: 'c', 'ok', 'site'"),
    (b"a,b,c,ok,site,d\n", "text/csv", ROWS, 422, "schema_mismatch", "unknown: 'd'"),
    (b"a,b,c,ok,site\n", "text/csv", ROWS, 422, "no_item_scored", "no items"),
    (b"\xff\xfd\x00", "text/csv", ROWS, 400, "decode_failed", "UTF-8"),
    (
        b"PK",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        ROWS,
        415,
        "unsupported",
        "save the workbook as CSV in UTF-8",
    ),
    (b"PK\x03\x04 xl/workbook.xml", "text/csv", ROWS, 415, "unsupported", "this is an Excel or OpenDocument workbook"),
    (
        ",".join(f"c{i}" for i in range(10_000)).encode() + b"\n",
        "text/csv",
        ROWS,
        413,
        "limit_exceeded",
        "10,000 columns",
    ),
    (b"PAR1 no PAR1", "application/vnd.apache.parquet", ROWS, 400, "decode_failed", "Parquet"),
    (b"no arrow", "application/vnd.apache.arrow.stream", ROWS, 400, "decode_failed", "Arrow"),
    (b"{}\n{\n", "application/x-ndjson", ROWS, 422, "no_item_scored", "none of 2 items"),
    (b"\x93NUMPY\x01\x00", "application/x-npy", NUMBERS, 400, "decode_failed", ".npy"),
    (npy(np.zeros((2, 7))), "application/x-npy", NUMBERS, 422, "schema_mismatch", "(n, 3)"),
    (npy(np.zeros((2, 9, 9), np.uint8)), "application/x-npy", PICTURES, 422, "schema_mismatch", "12, 12"),
    (b"[[1]]", "application/json", PICTURES, 422, "wrong_kind", "scores images"),
    (picture(np.zeros((4, 4), np.uint8)), "image/png", ROWS, 422, "schema_mismatch", "scores rows of a table"),
    (b"not an image", "image/png", PICTURES, 422, "no_item_scored", "not an image"),
    (picture(np.zeros((40, 40), np.uint8))[:50], "image/png", PICTURES, 422, "no_item_scored", "truncated"),
    (big_png(), "image/png", PICTURES, 422, "no_item_scored", "at most 1,000,000"),
    (b"PK no zip", "application/zip", PICTURES, 400, "decode_failed", "zip"),
    (zipped({"a.txt": b"x"}), "application/zip", PICTURES, 400, "zip_empty", "no images"),
    (zipped({f"{i}.png": b"x" for i in range(21)}), "application/zip", PICTURES, 413, "limit_exceeded", "21 files"),
    (zipped({"a.png": b"\0" * 5_000_000}), "application/zip", PICTURES, 413, "limit_exceeded", "a.png"),
    (b"x" * 2_000_001, "text/csv", ROWS, 413, "body_too_large", "2,000,000"),
    (b"[" + b"[1,2,3]," * 5_000 + b"[1,2,3]]", "application/json", NUMBERS, 413, "limit_exceeded", "5,001 rows"),
    (b"a,b,c\n" + b"1,2,3\n" * 5_001, "text/csv", NUMBERS, 413, "limit_exceeded", "5,001 rows"),
    (b"--x\r\nbroken", "multipart/form-data; boundary=x", ROWS, 400, "form_", "form"),
    (b"x", "multipart/form-data", ROWS, 400, "form_invalid", "form"),
    (b"[[1,2,3]]", "application/json", {}, 400, "model_required", "numbers, pictures, rows"),
    (b"[[1,2,3]]", "application/json", {"model": "nobody"}, 404, "model_not_found", "nobody"),
    (b"[[1,2,3]]", "application/json", {**NUMBERS, "alpha": "0"}, 400, "config_invalid", "alpha"),
    (b"[[1,2,3]]", "application/json", {**NUMBERS, "alpha": "nan"}, 400, "config_invalid", "alpha"),
    (b"[[1,2,3]]", "application/json", {**NUMBERS, "alpha": "much"}, 400, "config_invalid", "'much'"),
    (b"[[1,2,3]]", "application/json", {**NUMBERS, "layout": "x"}, 400, "config_invalid", "layout"),
    (b"[[1,2,3]]", "application/json", {**NUMBERS, "modle": "x"}, 400, "parameter_unknown", "did you mean 'model'"),
]


@pytest.mark.parametrize(("body", "media_type", "query", "status", "code", "message"), REFUSALS)
def test_refusals_have_one_shape_and_say_why(server, body, media_type, query, status, code, message) -> None:
    headers = {"content-type": media_type} if media_type else {}
    response = server.client.post("/score", content=body, headers=headers, params=query)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"code", "message", "where"}
    assert error["code"].startswith(code)
    assert message in error["message"]
    assert "Traceback" not in response.text
    assert server.client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("body", "encoding", "status", "code"),
    [
        (BOMB, "gzip", 413, "body_too_large"),
        (b"no gzip", "gzip", 400, "decode_failed"),
        (gzip.compress(b"a" * 1000)[:-5], "gzip", 400, "decode_failed"),
        (b"x", "br", 415, "unsupported_encoding"),
    ],
)
def test_encodings_that_are_refused(server, body, encoding, status, code) -> None:
    headers = {"content-type": "text/csv", "content-encoding": encoding}
    response = server.client.post("/score", content=body, headers=headers, params=NUMBERS)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


def test_a_chunked_body_over_the_limit_is_refused(server) -> None:
    def chunks():  # type: ignore[no-untyped-def]
        for _ in range(30):
            yield b"x" * 100_000

    response = server.client.post("/score", content=chunks(), headers={"content-type": "text/csv"}, params=ROWS)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")


def test_errors_are_counted_and_verdicts_are_those_at_the_bundles_alpha(
    server, table_scorer: Scorer, normal_rows
) -> None:
    model = f'model_name="rows",model_version="{table_scorer.version}"'
    names = [
        f'elbound_items_scored_total{{{model},verdict="anomaly"}}',
        f'elbound_items_scored_total{{{model},verdict="normal"}}',
        f'elbound_items_rejected_total{{{model},reason="cell_invalid"}}',
        f"elbound_p_value_count{{{model}}}",
        f'elbound_unseen_categories_total{{column="site",{model}}}',
    ]
    before = [server.metric(name) for name in names]
    rows = [
        *normal_rows.to_pylist(),
        {**normal_rows.to_pylist()[0], "site": "west"},
        {**normal_rows.to_pylist()[0], "a": "x"},
    ]
    server.score(orjson.dumps(rows), "application/json", alpha=0.9, **ROWS)
    gained = [server.metric(name) - old for name, old in zip(names, before, strict=True)]
    tensor = table_scorer.to_tensor(rows)
    expected = int(
        table_scorer.calibration.verdict.is_anomaly(table_scorer.score_tensor(tensor.x).score, table_scorer.alpha).sum()
    )
    assert gained == [expected, 201 - expected, 1, 201, 1]


def test_the_openapi_document_has_a_working_example_for_every_body(server) -> None:
    import base64

    document = server.client.get("/openapi.json").json()
    content = document["paths"]["/score"]["post"]["requestBody"]["content"]
    assert set(content) >= {*TABLES, *PILLOW, "application/zip", "application/x-npy", "multipart/form-data"}
    for media_type, facts in content.items():
        example = facts["example"]
        if media_type == "multipart/form-data":
            files = [("files", ("rows.csv", text)) for text in example["files"]]
            assert server.client.post("/score", files=files, params=ROWS).json()["summary"]["scored"] == 2
            continue
        binary = facts["schema"].get("contentEncoding") == "base64"
        body = base64.b64decode(example) if binary else example if isinstance(example, str) else json.dumps(example)
        model = "rows" if media_type in TABLES else "pictures"
        response = server.client.post(
            "/score", content=body, headers={"content-type": media_type}, params={"model": model}
        )
        assert response.status_code == 200, (media_type, response.text)
        assert response.json()["summary"]["errors"] == 0


def test_answers_are_as_the_openapi_document_says(server, normal_rows) -> None:
    from service.answers.schemas import ErrorAnswer, ModelAnswer, ModelsAnswer, ScoreAnswer

    body = orjson.dumps([*normal_rows.slice(0, 2).to_pylist(), {"a": 1}])
    for layout in ("items", "columns"):
        ScoreAnswer.model_validate_json(server.score(body, "application/json", layout=layout, **ROWS).content)
    ErrorAnswer.model_validate_json(server.score(b'[{"a": 1}]', "application/json", **ROWS).content)
    ErrorAnswer.model_validate_json(server.client.get("/nowhere").content)
    ModelsAnswer.model_validate_json(server.client.get("/models").content)
    for name in ("rows", "pictures", "numbers"):
        ModelAnswer.model_validate_json(server.client.get(f"/models/{name}").content)


def test_limits_are_those_of_the_request_not_of_each_file(server) -> None:
    rows = pa.table({name: np.zeros(2000) for name in "abc"})
    part = encode(rows, "application/vnd.apache.parquet")
    files = [("files", (f"{i}.parquet", part, "application/vnd.apache.parquet")) for i in range(4)]
    response = server.client.post("/score", files=files, params=NUMBERS)
    assert response.status_code == 413
    assert "at most 1,000 are read" in response.json()["error"]["message"]


def test_pixels_are_counted_over_the_upload(start, image_bundle) -> None:
    server = start(image_bundle, max_total_pixels=2_500_000)
    files = {f"{i}.png": picture(np.zeros((1000, 1000), np.uint8)) for i in range(4)}
    items = server.score(zipped(files), "application/zip").json()["items"]
    assert ["error" in item for item in items] == [False, False, True, True]
    assert items[2]["error"]["code"] == "image_too_large"


def form_of(*parts: tuple[str, bytes], end: bytes = b"--BB--\r\n") -> bytes:
    """A form with the boundary BB: each part's headers behind `Content-Disposition: form-data; `, and its body."""
    lines = [
        b"--BB\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (head.encode(), body) for head, body in parts
    ]
    return b"".join(lines) + end


FORM = "multipart/form-data; boundary=BB"


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
@pytest.mark.parametrize(
    ("head", "name"),
    [
        ("name=\"f\"; filename*=UTF-8''%C3%BC2.png\r\nContent-Type: image/png", "ü2.png"),
        ("name=\"f\"; filename*=UTF-8''%C3%BC2.png", "ü2.png"),
        ('name="f"; filename="u2.png"; filename*=UTF-8\'\'%C3%BC2.png', "u2.png"),
        ('name="f2"\r\nContent-Type: image/png', "f2"),
        ('name="ü.png"\r\nContent-Type: application/octet-stream', "ü.png"),
        ('name="f"; filename="a; b.png"', "a; b.png"),
    ],
)
def test_every_file_of_a_form_is_scored_by_whatever_name(server, accept: str, head: str, name: str) -> None:
    good = picture(np.full((12, 12), 7, np.uint8))
    body = form_of(('name="f"; filename="1.png"', good), (head, good), ('name="f"; filename="3.png"', good))
    headers = {"content-type": FORM, "accept": accept}
    response = server.client.post("/score", content=body, params=PICTURES, headers=headers)
    assert response.status_code == 200
    if accept == "application/json":
        assert [item["name"] for item in response.json()["items"]] == ["1.png", name, "3.png"]
    assert response.text.count('"is_anomaly"') == 3


@pytest.mark.parametrize("cut", ["no end", "in a file", "in a header", "in the last boundary"])
def test_a_form_that_is_cut_off_is_refused_and_names_the_part(server, cut: str) -> None:
    good = picture(np.full((12, 12), 7, np.uint8))
    whole = form_of(('name="f"; filename="1.png"', good), ('name="f"; filename="2.png"', good))
    ends = {"no end": -8, "in a file": -30, "in a header": whole.rindex(b"2.png") + 2, "in the last boundary": -4}
    response = server.client.post("/score", content=whole[: ends[cut]], params=PICTURES, headers={"content-type": FORM})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "form_invalid")
    assert "cut off" in response.json()["error"]["message"]
    assert cut == "in a header" or "'2.png'" in response.json()["error"]["message"]


def test_a_form_of_very_many_parts_is_refused(start, image_bundle) -> None:
    server = start(image_bundle, max_files=10)
    good = picture(np.full((12, 12), 7, np.uint8))
    for count, status in ((10, 200), (11, 413), (100_000, 413)):
        body = form_of(*[('name="f"; filename="1.png"', good)] * count)
        assert server.client.post("/score", content=body, headers={"content-type": FORM}).status_code == status


def test_text_fields_of_a_form_are_passed_over(server) -> None:
    files = [("files", ("a.json", b"[[1, 2, 3]]", "application/json"))]
    response = server.client.post("/score", files=files, data={"note": "x"}, params=NUMBERS)
    assert response.json()["summary"]["scored"] == 1
    only_text = server.client.post("/score", files=[("note", (None, "x"))], params=NUMBERS)
    assert (only_text.status_code, only_text.json()["error"]["code"]) == (400, "form_empty")


def test_a_number_beyond_float64_costs_its_row(server) -> None:
    answer = server.score(b"[[1, 2, 3], [1, 2, 1e400]]", "application/json", **NUMBERS).json()
    assert answer["summary"]["scored"] == 1
    assert "must be finite" in answer["items"][1]["error"]["message"]


def test_an_upload_of_nothing_but_errors_is_counted(server, numeric_scorer: Scorer) -> None:
    model = f'model_name="numbers",model_version="{numeric_scorer.version}"'
    name = f'elbound_items_rejected_total{{{model},reason="cell_invalid"}}'
    before = server.metric(name)
    assert server.score(b'[["x", 2, 3], [1, "y", 3]]', "application/json", **NUMBERS).status_code == 422
    assert server.metric(name) == before + 2
