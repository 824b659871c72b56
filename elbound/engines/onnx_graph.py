"""What an ONNX graph may hold before onnxruntime gets it: the operators of our exporter, and sizes that are known.

A graph is data, and still a program: it can loop, name files, and ask for any amount of memory. What is allowed here
has no branches and no files, and no size in it depends on a value: sizes come from constants and from the number of
rows, and grow with it. So what the largest batch takes is the most that the graph ever takes (`onnxtrial.py`).
"""

from collections.abc import Callable
from typing import Any

from elbound.errors import BundleError, MissingExtra

MAX_NODES = 20_000
DOMAINS = ("", "ai.onnx")
ELEMENTWISE = (
    "Abs Add And Cast Ceil Clip Div Equal Erf Exp Floor Greater GreaterOrEqual Identity IsInf IsNaN Less LessOrEqual "
    "Log LogSoftmax Max Min Mod Mul Neg Not Or Pow Reciprocal Relu Round Sigmoid Sign Softmax Softplus Sqrt Sub Tanh "
    "Where Xor"
)
REDUCTIONS = "ArgMax ArgMin ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare TopK"
PRODUCTS = "CumSum Gemm MatMul"
MOVES = (
    "Concat Constant ConstantOfShape Expand Flatten Gather GatherElements GatherND Pad Range Reshape ScatterElements "
    "ScatterND Shape Slice Split Squeeze Transpose Unsqueeze"
)
ALLOWED = frozenset(f"{ELEMENTWISE} {REDUCTIONS} {PRODUCTS} {MOVES}".split())
FROM_ROWS = {"Reshape": (1,), "Expand": (1,), "ConstantOfShape": (0,), "TopK": (1,)}
"""Inputs that say a size: they may follow from the number of rows, as below."""
FIXED = {"Slice": (1, 2, 3, 4), "Split": (1,), "Squeeze": (1,), "Unsqueeze": (1,), "Range": (0, 1, 2), "Pad": (1,)}
"""Inputs that say a size or a place: they must be constant."""
KEEPS_SIZES = {"Concat", "Gather", "Reshape", "Squeeze", "Unsqueeze", "Identity"}
"""What may be done with a size: it stays one. All inputs of `Concat` are sizes; of the others the first, and any
further one is constant."""
GRAPHS = (5, 10)
EXTERNAL = 1

_MESSAGES: dict[str, tuple[tuple[str, int, str, bool], ...]] = {
    "Entry": (("key", 1, "string", False),),
    "Tensor": (("external_data", 13, "Entry", True), ("data_location", 14, "int32", False)),
    "Attribute": (
        ("t", 5, "Tensor", False), ("g", 6, "Graph", False), ("tensors", 10, "Tensor", True),
        ("graphs", 11, "Graph", True), ("type", 20, "int32", False), ("ref_attr_name", 21, "string", False),
        ("sparse_tensor", 22, "Entry", False), ("sparse_tensors", 23, "Entry", True),
    ),
    "Node": (
        ("input", 1, "string", True), ("output", 2, "string", True), ("op_type", 4, "string", False),
        ("attribute", 5, "Attribute", True), ("domain", 7, "string", False),
    ),
    "Initializer": (
        ("name", 8, "string", False), ("external_data", 13, "Entry", True), ("data_location", 14, "int32", False),
    ),
    "Graph": (("node", 1, "Node", True), ("initializer", 5, "Initializer", True), ("sparse", 15, "Entry", True)),
    "Model": (("graph", 7, "Graph", False), ("functions", 25, "Entry", True)),
}  # fmt: skip
"""The fields of onnx.proto that are looked at: name, number, type, whether it is repeated."""


def check_graph(export: bytes) -> None:
    """Raise BundleError, which names what it is, where a graph holds something that our exporter does not write.

    Raises MissingExtra without protobuf, which comes with onnxruntime. The same library parses the graph in both.
    """
    try:
        graph = _parsed(export).graph
    except ImportError as error:
        raise MissingExtra("install onnxruntime: pip install 'elbound[onnx]'") from error
    except Exception as error:  # protobuf's DecodeError is not one class in all its versions
        raise BundleError(f"the export cannot be read: {error}", code="export_unreadable") from error
    if len(graph.node) > MAX_NODES:
        raise _refused(f"{len(graph.node):,} nodes; at most {MAX_NODES:,} are run")
    if graph.sparse or any(_is_external(one) for one in graph.initializer):
        raise _refused("tensors that are sparse or lie in another file")
    for node in graph.node:
        _check_node(node)
    _check_sizes(graph)


def open_session(export: bytes) -> Any:
    """The onnxruntime session of a graph that was checked, on one thread. Raises MissingExtra, BundleError."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("install onnxruntime: pip install 'elbound[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what it says of an error is in its exception
    options.add_session_config_entry("session.load_model_format", "ONNX")  # or bytes 4 to 8 would choose another one
    try:
        return onnxruntime.InferenceSession(export, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no base of their own
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise BundleError(f"the export cannot be read: {first}", code="export_unreadable") from error


def _check_node(node: Any) -> None:
    if node.domain not in DOMAINS or node.op_type not in ALLOWED:
        name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        raise _refused(f"the operator {name[:100]!r}, which elbound does not write")
    for one in node.attribute:
        if one.type in GRAPHS or one.HasField("g") or one.graphs or one.ref_attr_name:
            raise _refused(f"a graph or a function inside {node.op_type}")
        if one.HasField("sparse_tensor") or one.sparse_tensors or any(map(_is_external, (one.t, *one.tensors))):
            raise _refused("tensors that are sparse or lie in another file")


def _check_sizes(graph: Any) -> None:
    """Nodes stand in the order in which they run; whatever is not known to be a size or constant is a value."""
    fixed = {one.name for one in graph.initializer} | {""}
    sizes: set[str] = set()
    known = set(fixed) - {""}
    for node in graph.node:
        for place in (*FIXED.get(node.op_type, ()), *(from_rows := FROM_ROWS.get(node.op_type, ()))):
            name = node.input[place] if place < len(node.input) else ""
            if name not in fixed and not (place in from_rows and name in sizes):
                raise _refused(f"a size of {node.op_type} that is not fixed and not the number of rows")
        if not known.isdisjoint(node.output):
            raise _refused("a name twice")
        known.update(filter(None, node.output))
        if fixed.issuperset(node.input):
            fixed.update(node.output)
        elif node.op_type == "Shape" or _keeps_sizes(node, fixed, sizes):
            sizes.update(node.output)


def _keeps_sizes(node: Any, fixed: set[str], sizes: set[str]) -> bool:
    if node.op_type not in KEEPS_SIZES:
        return False
    first = len(node.input) if node.op_type == "Concat" else 1
    return all(name in sizes or name in fixed for name in node.input[:first]) and fixed.issuperset(node.input[first:])


def _is_external(tensor: Any) -> bool:
    return bool(tensor.external_data) or tensor.data_location == EXTERNAL


def _refused(what: str) -> BundleError:
    return BundleError(f"the export is not run: it holds {what}", code="export_refused", where="detector.onnx")


def _parsed(export: bytes) -> Any:
    """The graph as messages of protobuf, of which the fields above are known."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    kinds = {"string": field.TYPE_STRING, "int32": field.TYPE_INT32}
    file = descriptor_pb2.FileDescriptorProto(name="elbound.proto", package="elbound", syntax="proto2")
    for message, members in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, number, kind, repeated in members:
            label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            made = described.field.add(name=name, number=number, label=label, type=kinds.get(kind, field.TYPE_MESSAGE))
            if kind not in kinds:
                made.type_name = f".elbound.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    model: Callable[[], Any] = message_factory.GetMessageClass(pool.FindMessageTypeByName("elbound.Model"))
    parsed = model()
    parsed.ParseFromString(export)
    if parsed.functions:
        raise _refused("functions of its own")
    return parsed
