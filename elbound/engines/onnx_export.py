"""A detector as one ONNX graph: from events in their own units to every score, the noise inside."""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch
from torch import Tensor

from elbound.detector import Detector
from elbound.engines.agreement import AGREEMENT, hard_rows
from elbound.engines.engine import disagreement, load_graph
from elbound.engines.onnx_graph import check_graph
from elbound.engines.traced import Scores
from elbound.errors import BundleError, ConfigError, MissingExtra
from elbound.schema import ImageSchema, TableSchema

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def check_export(schema: TableSchema | ImageSchema) -> None:
    """Raise where `exported` would fail: MissingExtra, or ConfigError that names the part; asked before a fit."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise MissingExtra(f"--export onnx needs {', '.join(missing)}: pip install 'elbound[export]'")
    if isinstance(schema, ImageSchema):
        raise ConfigError(
            "an image detector cannot be exported: its code lengths, patches and pretrained features have no ONNX "
            "graph; leave out --export",
            where="bundle.export",
        )


def exported(detector: Detector, schema: TableSchema | ImageSchema, golden: Tensor, *, name: str) -> bytes:
    """The ONNX graph of a detector, compared with torch before it is given out.

    They are compared on the golden rows `(n, *event)`, on rows with gaps and on far ones; `name` is the model's, for
    messages. Raises as `check_export`, and BundleError where the detector has no graph or one that scores otherwise.
    """
    check_export(schema)
    assert isinstance(schema, TableSchema)
    detector = copy.deepcopy(detector).cpu().eval()
    graph = export_detector(detector, golden)
    check_graph(graph)
    worst = disagreement(detector, load_graph(graph), hard_rows(golden, schema))
    if not worst <= AGREEMENT:
        raise BundleError(
            f"the exported graph of {name} scores rows {worst:.2g} off (relative; at most {AGREEMENT:g})",
            code="export_failed",
        )
    return graph


def export_detector(detector: Detector, example: Tensor) -> bytes:
    """The ONNX graph of `Detector.score` for any number of events, from a detector on the CPU and a few `(n, *event)`.

    Raises BundleError with the step that has no graph.
    """
    function = Scores(detector).eval()
    with torch.inference_mode(False), torch.no_grad(), _quietly():
        function(example)  # what is derived at first use is there before the graph is taken
        try:
            program = torch.onnx.export(
                function,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
                input_names=["x"],
                output_names=["scores"],
                verbose=False,
            )
        except Exception as error:
            members = ", ".join(f"{one.spec.view} view with prior {one.spec.prior}" for one in detector.each())
            cause = error.__cause__ or error
            raise BundleError(
                f"the detector ({members}) cannot be exported: {(str(cause).splitlines() or ['no reason'])[0]}",
                code="export_failed",
            ) from error
    assert program is not None
    model = program.model_proto
    for described in (model, model.graph, *model.graph.node, *model.graph.value_info):
        del described.metadata_props[:]  # where on this machine each line of code lies
    data: bytes = model.SerializeToString()
    return data


@contextmanager
def _quietly() -> Iterator[None]:
    """The exporter warns of its own internals and of packages that nobody asked for."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
