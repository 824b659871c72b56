"""What computes the scores: eager torch, or onnxruntime where a bundle brings a graph that says the same.

Chosen by rule and never by a measurement, so that one machine answers today as it did yesterday.
"""

import logging
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from elbound.detector import ChunkScore, Detector
from elbound.engines.agreement import AGREEMENT, worst_difference
from elbound.engines.cuda_graphs import CudaGraphs
from elbound.engines.onnx_graph import check_graph, open_session
from elbound.engines.onnx_trial import try_graph
from elbound.engines.traced import SMALL_ROWS, traced
from elbound.errors import BundleError, MissingExtra
from elbound.schema import ImageSchema, TableSchema

logger = logging.getLogger("elbound")


class Engine(NamedTuple):
    """`score` maps events `(n, *event)` on the CPU to float64 `(n, scores)` there; `reason` is for people."""

    name: Literal["torch", "onnxruntime", "cuda_graphs"]
    reason: str
    score: Callable[[Tensor], Tensor]


def choose_engine(detector: Detector, golden: Tensor, device: torch.device, export: bytes | None) -> Engine:
    """On a CPU onnxruntime, where it is installed and the bundle's `export` agrees on the golden rows; on a GPU
    CUDA graphs, where the detector can be captured; else torch.

    An export that cannot be loaded or does not agree is an error in the log; torch goes on without it.
    """

    def by_torch(reason: str) -> Engine:
        return Engine("torch", reason, lambda x: detector(x, device).cpu())

    if device.type != "cpu":
        try:
            return Engine(
                "cuda_graphs", "the detector was captured for the device", CudaGraphs(detector, golden, device)
            )
        except RuntimeError as error:
            logger.warning("no CUDA graphs, torch scores one operation at a time: %s", _first_line(error))
            return by_torch(f"the detector cannot be captured: {_first_line(error)}")
    if export is None:
        return by_torch("the bundle has no export")
    try:
        check_graph(export)
        try_graph(export, rows=detector.cpu_chunk, columns=golden.shape[1])
        score = load_graph(export)
    except MissingExtra:
        return by_torch("onnxruntime is not installed")
    except BundleError as error:
        logger.error("%s; torch scores instead", error.message)
        return by_torch(error.message)
    worst = disagreement(detector, score, golden)
    if not worst <= AGREEMENT:
        reason = f"the export scores the golden rows {worst:.2g} off (relative; at most {AGREEMENT:g})"
        logger.error("%s; torch scores instead", reason)
        return by_torch(reason)
    reason = "the bundle's export agrees with torch on the golden rows"
    return Engine("onnxruntime", reason, lambda x: detector(x, device, score))


def with_small_batches(engine: Engine, detector: Detector, schema: TableSchema | ImageSchema, golden: Tensor) -> Engine:
    """`engine`; where that is torch on a CPU, with small batches scored by the detector's trace if it has one."""
    if engine.name != "torch":
        return engine
    small = traced(detector, schema, golden)
    if small is None:
        return engine
    cpu = torch.device("cpu")
    return Engine(
        "torch",
        f"{engine.reason}; small batches are scored by a trace",
        lambda x: detector(x, cpu, small) if len(x) <= SMALL_ROWS else engine.score(x),
    )


def load_graph(export: bytes) -> ChunkScore:
    """The function of an ONNX graph, on one thread: large batches are spread over the cores chunk by chunk.

    Raises MissingExtra without onnxruntime, BundleError where it cannot read the graph.
    """
    session = open_session(export)
    try:
        ((name,), (answer,)) = ([one.name for one in side] for side in (session.get_inputs(), session.get_outputs()))
    except ValueError as error:
        raise BundleError(
            "the export cannot be read: it has not one input and one output", code="export_unreadable"
        ) from error

    def score(x: Tensor) -> Tensor:
        return torch.from_numpy(session.run([answer], {name: x.double().numpy()})[0])

    return score


def disagreement(detector: Detector, score: ChunkScore, x: Tensor) -> float:
    """The worst difference of `score` from the detector's own over events `(n, *event)`, together and one alone.

    Infinite where `score` fails. On the CPU.
    """
    expected = detector(x, torch.device("cpu"))
    try:
        return max(worst_difference(score(part), own) for part, own in ((x, expected), (x[:1], expected[:1])))
    except Exception:
        logger.exception("the export fails")
        return torch.inf


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
