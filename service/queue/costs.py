"""What batches have cost lately: whether one is short, and how much of an upload may be scored at once."""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from service.queue.jobs import Job, Run

SMOOTHING = 1 / 8
SLICE_SECONDS = 0.01
"""What a slice of an upload may keep the device while small requests wait for it."""
MIN_SLICE_ROWS = 64
FORGETTING = 1.02
"""Of uploads the quickest slice counts, and less with every later one: on a busy machine most take longer than they
need."""


class Costs:
    """Learned from every batch; a run that nobody has seen costs what the caller assumes."""

    def __init__(self) -> None:
        self.cpu_seconds: WeakKeyDictionary[object, dict[int, float]] = WeakKeyDictionary()
        """Of small requests together, by whose run it is, in batches of up to 2^i rows."""
        self.row_seconds: WeakKeyDictionary[object, float] = WeakKeyDictionary()
        """Of a row of an upload, by whose run it is: time on the clock, since that is what others wait."""

    def expected(self, batch: Sequence[Job], otherwise: float) -> float:
        """CPU seconds of a batch of small requests; of a size not seen yet, twice those of half as many rows."""
        by_size, size = self.cpu_seconds.get(_owner(batch[0].run), {}), _size_of(batch)
        for smaller in range(size, 0, -1):
            known = by_size.get(smaller)
            if known is not None:
                return known * (1 << (size - smaller))
        return otherwise

    def slice_rows(self, run: Run, most: int) -> int:
        """How many rows of an upload to score at once: so many as take `SLICE_SECONDS`, at least `MIN_SLICE_ROWS`."""
        known = self.row_seconds.get(_owner(run))
        return min(most, MIN_SLICE_ROWS if known is None else max(MIN_SLICE_ROWS, int(SLICE_SECONDS / known)))

    def learn(self, batch: Sequence[Job], *, cpu_seconds: float, seconds: float) -> None:
        """Take note of a batch that has been scored."""
        owner = _owner(batch[0].run)
        if batch[0].lane == "interactive":
            size, by_size = _size_of(batch), self.cpu_seconds.setdefault(owner, {})
            known = by_size.get(size, cpu_seconds)
            by_size[size] = known + SMOOTHING * (cpu_seconds - known)
        else:
            found = seconds / sum(job.rows for job in batch)
            self.row_seconds[owner] = min(found, FORGETTING * self.row_seconds.get(owner, found))


def _size_of(batch: Sequence[Job]) -> int:
    """Batches of one run cost about the same with up to the same power of two of rows."""
    return sum(job.rows for job in batch).bit_length()


def _owner(run: Run) -> object:
    """Whose run it is, on whatever terms, so that what is known of it goes with it: a model, or the run itself."""
    return getattr(run, "__self__", None) or getattr(run, "scorer", run)
