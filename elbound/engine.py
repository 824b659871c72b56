"""What computes the scores: eager torch, or onnxruntime where a bundle brings a graph that says the same.

Chosen by rule and never by a measurement, so that one machine answers today as it did yesterday.
"""

import logging
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from elbound.detector import ChunkScore, Detector
from elbound.errors import BundleError, MissingExtra

AGREEMENT = 1e-5
"""Largest difference between the two engines, relative to a score's own size or to 1: the noise of a batch's shape."""

logger = logging.getLogger("elbound")


class Engine(NamedTuple):
    """`score` is what `Detector.forward` takes, None for the detector's own; `reason` is for people."""

    name: Literal["torch", "onnxruntime"]
    reason: str
    score: ChunkScore | None = None


def choose_engine(detector: Detector, golden: Tensor, device: torch.device, export: bytes | None) -> Engine:
    """onnxruntime on a CPU where it is installed and the bundle's `export` agrees on the golden rows; else torch.

    An export that cannot be loaded or does not agree is an error in the log; torch goes on without it.
    """
    if export is None:
        return Engine("torch", "the bundle has no export")
    if device.type != "cpu":
        return Engine("torch", f"the device is {device.type}, and the export is for the CPU")
    try:
        score = load_graph(export)
    except MissingExtra:
        return Engine("torch", "onnxruntime is not installed")
    except BundleError as error:
        logger.error("%s; torch scores instead", error.message)
        return Engine("torch", error.message)
    worst = disagreement(detector, score, golden)
    if not worst <= AGREEMENT:
        reason = f"the export scores the golden rows {worst:.2g} off (relative; at most {AGREEMENT:g})"
        logger.error("%s; torch scores instead", reason)
        return Engine("torch", reason)
    return Engine("onnxruntime", "the bundle's export agrees with torch on the golden rows", score)


def load_graph(export: bytes) -> ChunkScore:
    """The function of an ONNX graph, on one thread: large batches are spread over the cores chunk by chunk.

    Raises MissingExtra without onnxruntime, BundleError where it cannot read the graph.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("install onnxruntime: pip install 'elbound[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what it says of an error is in its exception
    try:
        session = onnxruntime.InferenceSession(export, options, providers=["CPUExecutionProvider"])
        ((name,), (answer,)) = ([one.name for one in side] for side in (session.get_inputs(), session.get_outputs()))
    except Exception as error:  # its exceptions have no base of their own
        raise BundleError(f"the export cannot be read: {_first_line(error)}", code="export_unreadable") from error

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


def worst_difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference of scores `(n, scores)`, relative to their own size or to 1; infinite for other shapes."""
    if found.shape != expected.shape:
        return torch.inf
    difference = (found - expected).abs() / expected.abs().clamp(min=1.0)
    return float(difference.nan_to_num(nan=torch.inf).max()) if len(expected) else 0.0


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
