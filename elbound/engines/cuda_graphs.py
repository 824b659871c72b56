"""CUDA graphs of a detector: a chunk is one launch, not some hundred kernels started one by one from Python.

A graph is captured once for each of a few batch sizes and checked against the eager detector; a chunk takes the
smallest that holds it. NVIDIA, CUDA C++ Programming Guide, section "CUDA Graphs".
"""

import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from elbound.detector import Detector
from elbound.engines.agreement import AGREEMENT, worst_difference

SIZES = (1, 8, 64, 512, 4096)
"""Rows of the graphs below the largest chunk's: at most eight times as many rows are computed as are asked for."""
WARM_UPS = 3
"""Runs before a capture: in the first ones libraries choose their kernels and take their workspaces."""
SLOTS = 2
"""While the device works on one chunk, the host fills and empties the buffers of the other."""


def graph_sizes(chunk: int) -> tuple[int, ...]:
    """The rows of the graphs for chunks of at most `chunk` rows, rising."""
    return (*(size for size in SIZES if size < chunk), chunk)


def size_for(rows: int, sizes: Sequence[int]) -> int:
    """The smallest of the rising `sizes` that holds `rows`."""
    return next(size for size in sizes if size >= rows)


@dataclass(frozen=True)
class Captured:
    """A graph and the memory on the device that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    x: Tensor
    scores: Tensor


class Slot:
    """Pinned host memory for a chunk on its way to the device and for its scores on their way back."""

    def __init__(self, x: Tensor, scores: Tensor) -> None:
        self.x = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
        self.scores = torch.empty(scores.shape, dtype=scores.dtype, pin_memory=True)
        self.done = torch.cuda.Event()
        self.start = self.rows = 0

    def empty_into(self, out: Tensor) -> None:
        """Wait for the slot's chunk, if it has one, and copy its scores out."""
        if self.rows:
            self.done.synchronize()
            out[self.start : self.start + self.rows] = self.scores[: self.rows]
            self.rows = 0


class CudaGraphs:
    """A detector's scores by captured graphs, on a stream and in device memory of their own.

    A capture concerns the calls of its thread alone, so that a model may be loaded beside one that serves; a lock
    keeps the buffers of one call from the next. Raises RuntimeError where the detector does what cannot be captured
    (it asks the device for a value), or where a graph does not score as the detector does.
    """

    @torch.inference_mode()
    def __init__(self, detector: Detector, golden: Tensor, device: torch.device) -> None:
        self.detector = detector
        self.device = device
        self.lock = threading.Lock()
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()
        self.sizes = graph_sizes(detector.cuda_chunk)
        self.captured: dict[int, Captured] = {}
        for size in reversed(self.sizes):  # the largest first: the others fit into its memory
            rows = golden.repeat(-(-size // len(golden)), *(1,) * (golden.ndim - 1))[:size].to(device)
            self.captured[size] = self._capture(rows.flip(0).contiguous())
            self._check(self.captured[size], rows)
        largest = self.captured[self.sizes[-1]]
        self.slots = [Slot(largest.x, largest.scores) for _ in range(SLOTS)]

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """Scores of events `(n, *event)`, both on the CPU: float64 `(n, scores)`, in memory of the caller's own."""
        out = torch.empty(len(x), len(self.detector.score_names), dtype=torch.float64)
        starts = range(0, len(x), self.sizes[-1])
        with self.lock, torch.cuda.stream(self.stream):
            for start, slot in zip(starts, itertools.cycle(self.slots), strict=False):
                slot.empty_into(out)
                self._launch(slot, x[start : start + self.sizes[-1]], start)
            for slot in self.slots:
                slot.empty_into(out)
        return out

    def _launch(self, slot: Slot, rows: Tensor, start: int) -> None:
        """Put the copy in, the graph and the copy out on the stream; nothing waits. Rows are computed one by one,
        so that what lay behind those of this chunk changes nothing."""
        n = len(rows)
        captured = self.captured[size_for(n, self.sizes)]
        slot.x[:n].copy_(rows)
        captured.x[:n].copy_(slot.x[:n], non_blocking=True)
        captured.graph.replay()
        slot.scores[:n].copy_(captured.scores[:n], non_blocking=True)
        slot.done.record(self.stream)
        slot.start, slot.rows = start, n

    def _capture(self, x: Tensor) -> Captured:
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            for _ in range(WARM_UPS):
                self.detector.score(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
            scores = self.detector.score(x)
        return Captured(graph, x, scores)

    def _check(self, captured: Captured, x: Tensor) -> None:
        """Rows in another order than those of the capture must score as the detector scores them."""
        expected = self.detector.score(x).cpu()
        with torch.cuda.stream(self.stream):
            captured.x.copy_(x)
            captured.graph.replay()
        self.stream.synchronize()
        worst = worst_difference(captured.scores.cpu(), expected)
        if not worst <= AGREEMENT:
            raise RuntimeError(f"the graph of {len(x)} rows scores {worst:.2g} off (relative; at most {AGREEMENT:g})")
