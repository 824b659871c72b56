"""Scores of an upload that wait until the caller reads: compactly, in memory up to a bound, then on disk."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import torch

from elbound.calibration.calibration import ScoredItems
from elbound.calibration.results import text_array
from elbound.data.items import TensorItems
from elbound.errors import ItemError
from elbound.scorer import Scorer
from service.memory.spool import Spool, SpoolFile

NAME, GROUP, CODE, MESSAGE, WHERE = "name", "group", "code", "message", "where"


@dataclass(frozen=True)
class Slot:
    """Where on disk a batch lies."""

    place: int
    size: int


class HeldResults:
    """Pieces in their order, put in by whoever scores and taken out by whoever answers; both in the event loop.

    What passes `max_held_bytes` goes to disk, or waits once the answer is being written. Raises LimitExceeded,
    SpoolFull.
    """

    def __init__(self, scorer: Scorer, spool: Spool, *, max_held_bytes: int) -> None:
        self.scorer = scorer
        self.spool = spool
        self.max_held_bytes = max_held_bytes
        self.held_bytes = 0
        self.items = 0
        self.scored = 0
        self.answering = False
        """Whether somebody takes."""
        self._waiting: deque[pa.RecordBatch | Slot] = deque()
        self._file: SpoolFile | None = None
        self._ended = False
        self._changed = asyncio.Condition()

    async def put(self, items: TensorItems, scored: ScoredItems) -> None:
        """Keep a piece."""
        batch = pack(items, [scored.scores[name] for name in self.scorer.detector.score_names])
        found: pa.RecordBatch | Slot = batch
        async with self._changed:
            if self.answering:
                await self._changed.wait_for(lambda: not self._waiting or self._has_room(batch))
            elif not self._has_room(batch):
                found = await asyncio.to_thread(self._write, batch)
            if isinstance(found, pa.RecordBatch):
                self.held_bytes += batch.nbytes
            self._waiting.append(found)
            self.items += items.n
            self.scored += len(scored)
            self._changed.notify_all()

    async def end(self) -> None:
        """Nothing more comes."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def until_answerable(self) -> None:
        """Until an item is scored, or nothing more comes."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.scored or self._ended)

    async def take(self) -> tuple[TensorItems, ScoredItems] | None:
        """The next piece, ranked anew from its scores; its items have no `x`. None at the end."""
        async with self._changed:
            self.answering = True
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._waiting or self._ended)
            if not self._waiting:
                return None
            found = self._waiting.popleft()
            if isinstance(found, pa.RecordBatch):
                self.held_bytes -= found.nbytes
            self._changed.notify_all()
        return await asyncio.to_thread(self._rank, found)

    def close(self) -> None:
        """Give memory and disk back."""
        self._waiting.clear()
        if self._file is not None:
            self._file.close()

    def _has_room(self, batch: pa.RecordBatch) -> bool:
        return bool(self.held_bytes + batch.nbytes <= self.max_held_bytes)

    def _write(self, batch: pa.RecordBatch) -> Slot:
        if self._file is None:
            self._file = self.spool.open()
        sink = pa.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        data = memoryview(sink.getvalue())
        return Slot(self._file.write(data), len(data))

    def _rank(self, found: pa.RecordBatch | Slot) -> tuple[TensorItems, ScoredItems]:
        if isinstance(found, Slot):
            assert self._file is not None
            found = pyarrow.ipc.open_stream(self._file.read(found.place, found.size)).read_next_batch()
        names = self.scorer.detector.score_names
        items, columns = unpack(found, len(names))
        scored = self.scorer.calibration.judge(dict(zip(names, columns, strict=True)))
        return items, self.scorer.within_groups(scored, items)


def pack(items: TensorItems, columns: Sequence[np.ndarray]) -> pa.RecordBatch:
    """Scores `(m,)` in `columns` with what an answer says of each of the `n` items; the inverse of `unpack`."""
    n, errors = items.n, items.errors
    fields: dict[str, pa.Array] = {}
    for i, values in enumerate(columns):
        if errors:
            whole = np.zeros(n)
            whole[items.index] = values
            unreadable = np.ones(n, dtype=bool)
            unreadable[items.index] = False
            fields[str(i)] = pa.array(whole, mask=unreadable)
        else:
            fields[str(i)] = pa.array(np.ascontiguousarray(values))
    for name, texts in ((NAME, items.names), (GROUP, items.groups)):
        if texts is not None:
            fields[name] = text_array(list(texts))
    if errors:
        found = [errors.get(i) for i in range(n)]
        fields[CODE] = text_array([None if one is None else one.code for one in found])
        fields[MESSAGE] = text_array([None if one is None else one.message for one in found])
        fields[WHERE] = text_array([None if one is None else one.where for one in found])
    return pa.record_batch(fields)


def unpack(batch: pa.RecordBatch, scores: int) -> tuple[TensorItems, list[np.ndarray]]:
    """The items and the columns of their `scores`."""
    n = batch.num_rows
    errors: dict[int, ItemError] = {}
    index = np.arange(n)
    columns = [batch.column(i) for i in range(scores)]
    fields = set(batch.schema.names)
    if CODE in fields:
        index = np.flatnonzero(columns[0].is_valid().to_numpy(zero_copy_only=False))
        columns = [column.drop_null() for column in columns]
        told = (batch.column(name).to_pylist() for name in (CODE, MESSAGE, WHERE))
        errors = {
            i: ItemError(message, code=code, where=where)
            for i, (code, message, where) in enumerate(zip(*told, strict=True))
            if code is not None
        }
    texts = {name: batch.column(name).to_pylist() if name in fields else None for name in (NAME, GROUP)}
    nothing = torch.empty((len(index), 0))
    items = TensorItems(nothing, index, n, errors, names=texts[NAME], groups=texts[GROUP])
    return items, [column.to_numpy(zero_copy_only=False) for column in columns]
