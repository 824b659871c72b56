"""What a decoder process can be asked for: functions of a preprocessor, the settings and what was sent."""

import os
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import pyarrow.ipc

from elbound.data.items import TensorItems
from elbound.data.preprocessor import Preprocessor
from elbound.files.limits import TableLimits
from elbound.files.parquet import ParquetFile, ParquetHead
from service.settings import Settings
from service.uploads.decode import decode_all, split_request, table_limits
from service.v2.items import items_of
from service.v2.requests import InferRequest, read_request

DESCRIBED_ERRORS = 1_000
"""Errors of one upload that have a message of their own."""


def uploads(preprocessor: Preprocessor, settings: Settings, body: bytes, content_type: str) -> TensorItems:
    """The items of a whole body. Raises DataError."""
    items = decode_all(split_request(body, content_type, settings), preprocessor, settings)
    return items.with_few_messages(DESCRIBED_ERRORS)


def inference(
    preprocessor: Preprocessor, settings: Settings, body: bytes, header_length: str | None
) -> tuple[InferRequest, TensorItems]:
    """What a request of the Open Inference Protocol asks for, without its inputs, and its items. Raises DataError."""
    limits = table_limits(preprocessor, settings, max_rows=settings.max_rows, max_bytes=settings.max_expanded_bytes)
    asked = read_request(body, header_length, limits)
    return asked.without_inputs(), items_of(asked.inputs, preprocessor, settings, limits)


def images(preprocessor: Preprocessor, settings: Settings, files: Sequence[bytes], names: Sequence[str]) -> TensorItems:
    """Encoded images, some of a larger upload. Raises LimitExceeded."""
    return preprocessor.images_to_tensor(
        files, names=names, max_pixels=settings.max_pixels, max_total_pixels=settings.max_total_pixels
    )


def parquet_head(preprocessor: Preprocessor, settings: Settings, file: int) -> ParquetHead:
    """The head of an open file. Raises DecodeError, LimitExceeded."""
    with os.fdopen(file, "rb") as source:
        return ParquetFile(source, rows=1, limits=_stream_limits(preprocessor, settings)).head()


def parquet_group(
    preprocessor: Preprocessor, settings: Settings, group: int, rows: int, file: int
) -> Iterator[pa.Buffer]:
    """A row group of an open file, `rows` rows at a time, each as an Arrow IPC stream. Raises DecodeError."""
    with os.fdopen(file, "rb") as source:
        limits = _stream_limits(preprocessor, settings)
        for table in ParquetFile(source, rows=rows, limits=limits).batches(group):
            sink = pa.BufferOutputStream()
            with pyarrow.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
            yield sink.getvalue()


def _stream_limits(preprocessor: Preprocessor, settings: Settings) -> TableLimits:
    return table_limits(preprocessor, settings, max_rows=TableLimits.max_rows, max_bytes=settings.max_expanded_bytes)


TASKS: dict[str, Callable[..., object]] = {
    task.__name__: task for task in (uploads, inference, images, parquet_head, parquet_group)
}
