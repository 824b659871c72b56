"""What batches have cost lately: whether one is short, and how much of an upload may be scored at once."""

from collections.abc import Sequence

from service.jobs import Job, Run

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
        self.cpu_seconds: dict[tuple[object, int], float] = {}
        """Of small requests together, by scorer, in batches of up to 2^i rows."""
        self.row_seconds: dict[Run, float] = {}
        """Of a row of an upload, by run: time on the clock, since that is what others wait."""

    def expected(self, batch: Sequence[Job], otherwise: float) -> float:
        """CPU seconds of a batch of small requests; of a size not seen yet, twice those of half as many rows."""
        run, size = _size_of(batch)
        for smaller in range(size, 0, -1):
            known = self.cpu_seconds.get((run, smaller))
            if known is not None:
                return known * (1 << (size - smaller))
        return otherwise

    def slice_rows(self, run: Run, most: int) -> int:
        """How many rows of an upload to score at once: so many as take `SLICE_SECONDS`, at least `MIN_SLICE_ROWS`."""
        known = self.row_seconds.get(run)
        return min(most, MIN_SLICE_ROWS if known is None else max(MIN_SLICE_ROWS, int(SLICE_SECONDS / known)))

    def learn(self, batch: Sequence[Job], *, cpu_seconds: float, seconds: float) -> None:
        """Take note of a batch that has been scored."""
        if batch[0].lane == "interactive":
            size = _size_of(batch)
            known = self.cpu_seconds.get(size, cpu_seconds)
            self.cpu_seconds[size] = known + SMOOTHING * (cpu_seconds - known)
        else:
            run, found = batch[0].run, seconds / sum(job.rows for job in batch)
            self.row_seconds[run] = min(found, FORGETTING * self.row_seconds.get(run, found))


def _size_of(batch: Sequence[Job]) -> tuple[object, int]:
    """Batches that cost about the same: up to the same power of two of rows, of one scorer on whatever terms."""
    run = batch[0].run
    return getattr(run, "scorer", run), sum(job.rows for job in batch).bit_length()
