"""ONNX graphs by somebody who may write a bundle: not run, by name, while torch scores on."""

import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from elbound.engines import onnx_trial as onnxtrial
from elbound.engines.engine import load_graph
from elbound.engines.onnx_export import export_detector
from elbound.engines.onnx_graph import ALLOWED, check_graph, open_session
from elbound.engines.onnx_trial import try_graph
from elbound.errors import BundleError
from elbound.scorer import Scorer
from tests.conftest import odd_detector
from tests.elbound.test_hostile_bundles import vouch

onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

pytestmark = pytest.mark.slow

DOUBLE = TensorProto.DOUBLE


def constant(name: str, value: object) -> object:
    return numpy_helper.from_array(np.array(value), name)


def graph(*nodes: object, constants: tuple[object, ...] = (), **model: object) -> bytes:
    """A model from `x` (n, 5) to `scores`, of these nodes."""
    x, scores = (helper.make_tensor_value_info(name, DOUBLE, ["n", None]) for name in ("x", "scores"))
    body = helper.make_graph(list(nodes), "g", [x], [scores], list(constants))
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("own", 1)]
    data: bytes = helper.make_model(body, opset_imports=opsets, ir_version=10, **model).SerializeToString()
    return data


def loop() -> bytes:
    """A loop that ends after nine trillion rounds."""
    flag = helper.make_tensor_value_info("go", TensorProto.BOOL, [])
    round_ = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    out = helper.make_tensor_value_info("on", TensorProto.BOOL, [])
    body = helper.make_graph([helper.make_node("Identity", ["go"], ["on"])], "body", [round_, flag], [out])
    return graph(
        helper.make_node("Loop", ["most", ""], [], body=body),
        helper.make_node("Identity", ["x"], ["scores"]),
        constants=(constant("most", 9 * 10**12),),
    )


def branch() -> bytes:
    out = helper.make_tensor_value_info("y", DOUBLE, None)
    parts = [helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], name, [], [out]) for name in "ab"]
    node = helper.make_node("If", ["c"], ["scores"], then_branch=parts[0], else_branch=parts[1])
    return graph(node, constants=(constant("c", True),))


def hidden_graph() -> bytes:
    """An allowed operator with a graph as an attribute that it does not have."""
    node = helper.make_node("Identity", ["x"], ["scores"])
    node.attribute.append(helper.make_attribute("body", helper.make_graph([], "g", [], [])))
    return graph(node)


def outside(attribute: bool) -> bytes:
    tensor = constant("w", np.zeros(5))
    tensor.ClearField("raw_data")  # type: ignore[attr-defined]
    entry = tensor.external_data.add()  # type: ignore[attr-defined]
    entry.key, entry.value = "location", "../../etc/passwd"
    tensor.data_location = TensorProto.EXTERNAL  # type: ignore[attr-defined]
    add = helper.make_node("Add", ["x", "w"], ["scores"])
    if attribute:
        return graph(helper.make_node("Constant", [], ["w"], value=tensor), add)
    return graph(add, constants=(tensor,))


def own_function() -> bytes:
    body = helper.make_function("own", "F", ["a"], ["b"], [helper.make_node("Identity", ["a"], ["b"])], [])
    return graph(helper.make_node("F", ["x"], ["scores"], domain="own"), functions=[body])


def sparse() -> bytes:
    values = helper.make_tensor("v", DOUBLE, [1], [1.0])
    places = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    tensor = helper.make_sparse_tensor(values, places, [1 << 40])
    return graph(
        helper.make_node("Constant", [], ["c"], sparse_value=tensor), helper.make_node("Identity", ["x"], ["scores"])
    )


def sized_by_values() -> bytes:
    """As many rows as a cell says."""
    return graph(
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Cast", ["m"], ["k"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["k", "zero"], ["size"]),
        helper.make_node("Expand", ["one", "size"], ["scores"]),
        constants=(constant("zero", [0]), constant("one", [1.0])),
    )


def sized_by_a_table() -> bytes:
    """Small for every number of rows but one."""
    return graph(
        helper.make_node("Shape", ["x"], ["n"], start=0, end=1),
        helper.make_node("Gather", ["table", "n"], ["size"]),
        helper.make_node("Expand", ["one", "size"], ["scores"]),
        constants=(constant("table", np.ones(2000, np.int64)), constant("one", [1.0])),
    )


def shadowed() -> bytes:
    """A constant whose name a value of the rows takes."""
    return graph(
        helper.make_node("Cast", ["x"], ["size"], to=TensorProto.INT64),
        helper.make_node("Expand", ["one", "size"], ["scores"]),
        constants=(constant("size", [1]), constant("one", [1.0])),
    )


def doubling(times: int) -> bytes:
    nodes = [helper.make_node("Concat", [f"x{i}"] * 2, [f"x{i + 1}"], axis=1) for i in range(times)]
    nodes.insert(0, helper.make_node("Identity", ["x"], ["x0"]))
    return graph(*nodes, helper.make_node("Identity", [f"x{times}"], ["scores"]))


def folded() -> bytes:
    """A constant of 80 GB that is computed while the graph is loaded."""
    fill = helper.make_tensor("v", DOUBLE, [1], [1.0])
    return graph(
        helper.make_node("ConstantOfShape", ["size"], ["c"], value=fill),
        helper.make_node("ReduceSum", ["c"], ["s"], keepdims=0),
        helper.make_node("Add", ["x", "s"], ["scores"]),
        constants=(constant("size", [10**10]),),
    )


def endless() -> bytes:
    """Products that take minutes."""
    nodes = [helper.make_node("MatMul", [f"w{i}", "w0"], [f"w{i + 1}"]) for i in range(3000)]
    add = helper.make_node("ReduceSum", ["w3000"], ["s"], keepdims=0)
    weights = constant("w0", np.eye(1000))
    return graph(*nodes, add, helper.make_node("Add", ["x", "s"], ["scores"]), constants=(weights,))


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "loop": (loop, "the operator 'Loop', which elbound does not write"),
    "branch": (branch, "the operator 'If'"),
    "hidden graph": (hidden_graph, "a graph or a function inside Identity"),
    "another file": (lambda: outside(False), "tensors that are sparse or lie in another file"),
    "another file in a node": (lambda: outside(True), "tensors that are sparse or lie in another file"),
    "domain": (
        lambda: graph(helper.make_node("Gelu", ["x"], ["scores"], domain="com.microsoft")),
        "the operator 'com.microsoft.Gelu'",
    ),
    "function": (own_function, "functions of its own"),
    "sparse": (sparse, "tensors that are sparse"),
    "size by values": (sized_by_values, "a size of Expand that is not fixed and not the number of rows"),
    "size by a table": (sized_by_a_table, "a size of Expand that is not fixed"),
    "a name twice": (shadowed, "a name twice"),
    "many nodes": (
        lambda: graph(*(helper.make_node("Relu", ["x"], [f"y{i}"]) for i in range(20_001))), "20,001 nodes"
    ),
    "no graph": (lambda: b"\x00" * 100, "the export cannot be read"),
}  # fmt: skip
FAILS: dict[str, tuple[Callable[[], bytes], str]] = {
    "doubling": (lambda: doubling(40), "its trial"),
    "folded": (folded, "its trial"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_our_exporter_does_not_write_is_refused_by_name(name: str) -> None:
    with pytest.raises(BundleError, match=REFUSED[name][1]):
        check_graph(REFUSED[name][0]())


@pytest.mark.parametrize("name", FAILS)
def test_what_takes_too_much_memory_ends_in_its_trial(name: str) -> None:
    data = FAILS[name][0]()
    check_graph(data)
    start = time.monotonic()
    with pytest.raises(BundleError, match=FAILS[name][1]):
        try_graph(data, rows=64, columns=5)
    assert time.monotonic() - start < 20


def test_what_takes_too_long_ends_in_its_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxtrial, "WAIT_SECONDS", 1)
    data = endless()
    check_graph(data)
    with pytest.raises(BundleError, match="its trial took more than 1 s"):
        try_graph(data, rows=64, columns=5)


def test_a_graph_in_another_format_is_not_taken_for_one() -> None:
    """Bytes 4 to 8 are what onnxruntime knows its own format by."""
    data = graph(helper.make_node("Identity", ["x"], ["scores"]))
    assert open_session(data).get_inputs()[0].name == "x"
    with pytest.raises(BundleError, match="cannot be read"):
        open_session(data[:4] + b"ORTM" + data[8:])


def test_the_bundle_is_served_by_torch_and_the_log_says_why(
    exported_bundle: Path, table_scorer: Scorer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = Path(shutil.copytree(exported_bundle, tmp_path / "copy"))
    vouch(bundle, **{"detector.onnx": loop()})
    with caplog.at_level(logging.ERROR, "elbound"):
        scorer = Scorer.from_bundle(bundle, device="cpu")
    reason = "the export is not run: it holds the operator 'Loop', which elbound does not write"
    assert scorer.engine[:2] == ("torch", reason)
    assert f"{reason}; torch scores instead" in caplog.text
    assert (scorer.raw_scores(scorer.golden) == table_scorer.raw_scores(table_scorer.golden)).all()


def test_what_we_write_of_every_part_passes(exported_bundle: Path) -> None:
    detector, _, events = odd_detector()
    written = [(export_detector(detector, events[:4]), 2), ((exported_bundle / "detector.onnx").read_bytes(), 5)]
    for data, columns in written:
        check_graph(data)
        try_graph(data, rows=128, columns=columns)
        assert load_graph(data)(torch.zeros(3, columns, dtype=torch.float64)).isfinite().all()
        assert {node.op_type for node in onnx.load_model_from_string(data).graph.node} <= ALLOWED
