"""The items of an upload, a bounded number at a time, while its bytes arrive."""

import io
import math
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, cast

import pyarrow as pa
import pyarrow.ipc

from elbound.data.items import TensorItems
from elbound.data.memory import announce
from elbound.data.preprocessor import Preprocessor
from elbound.data.raw import RawTable
from elbound.errors import DataError, DecodeError, ItemError, LimitExceeded
from elbound.files.csv_stream import csv_pieces
from elbound.files.images import read_member, zip_images
from elbound.files.limits import TableLimits
from elbound.files.long_cells import set_long_cells_aside
from elbound.files.npy import fortran_blocks, npy_blocks, read_header
from elbound.files.parquet import ParquetHead, parquet_pieces
from elbound.files.streams import arrow_pieces, ndjson_pieces
from service.http.media_types import ARROW, CSV, NDJSON, NPY, PARQUET, ZIP
from service.memory.spool import Spool, SpoolFile
from service.settings import Settings
from service.uploads.decode import check_kind, check_zip, media_type_of, table_limits
from service.uploads.feed import BrokenGzip

PIECE_ROWS = 8_192
PIECE_CELLS = 1 << 19
PIECE_IMAGES = 64
PIECE_BYTES = 16 << 20
"""A piece of longer rows has fewer of them."""
READ_BYTES = 1 << 20
PREFIX_BYTES = 8
"""Before the first length of an Arrow stream is known."""
MEMBER_BYTES = 1 << 10
"""What the index of a zip may hold for each of `max_files`."""
STREAMED_BODIES = (CSV, NDJSON, ARROW, NPY, PARQUET, ZIP)
"""Bodies that are not held in memory; the others are read as a whole, and are bounded as in a buffered answer."""


class Decode(Protocol):
    """Has a task of `service.uploads.decoding.tasks` done for the upload, and waits for it."""

    def __call__(
        self,
        task: str,
        *args: object,
        files: tuple[int, ...] = (),
        on_piece: Callable[[memoryview], object] | None = None,
    ) -> Any:
        """Raises what the task raises."""


@dataclass(frozen=True)
class Reader:
    """What reads an upload for the model of `preprocessor`: its type, the limits, and where it may be set aside."""

    preprocessor: Preprocessor
    content_type: str
    settings: Settings
    spool: Spool

    @property
    def max_body_bytes(self) -> int:
        """Most bytes of the body as it is received."""
        settings = self.settings
        return settings.max_stream_bytes if self.is_streamed else settings.max_body_bytes

    @property
    def max_opened_bytes(self) -> int:
        """Most bytes that its gzip may open to."""
        settings = self.settings
        return settings.max_stream_bytes if self.is_streamed else settings.max_expanded_bytes

    @property
    def is_streamed(self) -> bool:
        return media_type_of(self.content_type) in STREAMED_BODIES

    def pieces(self, raw: io.RawIOBase, decode: Decode) -> Generator[TensorItems]:
        """The items of the body `raw`, which is read in the caller's thread; `decode` has a part decoded aside.

        What breaks off gives the items before the break and raises DataError. Raises UnsupportedMedia, SchemaError,
        LimitExceeded, SpoolFull too.
        """
        media_type = media_type_of(self.content_type)
        source: io.BufferedReader = io.BufferedReader(raw, READ_BYTES)
        with ExitStack() as stack, unpacking():
            if not source.peek(1):
                raise DecodeError("the body is empty", code="body_empty", where="body")
            if not self.is_streamed:
                yield self._whole(source, decode)
            elif media_type == ZIP:
                check_zip(self.preprocessor)
                yield from self._images(self._set_aside(source, stack), decode)
            elif media_type == NPY:
                yield from self._array(source, stack)
            else:
                check_kind(self.preprocessor, media_type)
                yield from self._tables(source, media_type, stack, decode)

    def _whole(self, source: io.BufferedReader, decode: Decode) -> TensorItems:
        """What is read as one piece: JSON, an image, a form."""
        body = io.BytesIO()  # grows in place, and gives away what it holds without a copy
        while data := source.read(READ_BYTES):
            announce(body.tell() + 2 * len(data))
            body.write(data)
        found: TensorItems = decode("uploads", body.getvalue(), self.content_type)
        return found

    def _tables(
        self, source: io.BufferedReader, media_type: str, stack: ExitStack, decode: Decode
    ) -> Iterator[TensorItems]:
        settings, scorer = self.settings, self.preprocessor
        limits = table_limits(
            scorer, settings, max_rows=TableLimits.max_rows, max_bytes=min(settings.max_expanded_bytes, 1 << 40)
        )
        rows = _rows_a_piece(scorer)

        def check(head: pa.Table) -> None:
            limits.check(columns=head.num_columns)
            scorer.to_tensor(RawTable(table=head))

        if media_type == CSV:
            found = csv_pieces(source, rows=rows, wanted=_all, check=check, piece_bytes=PIECE_BYTES, limits=limits)
        elif media_type == NDJSON:
            found = ndjson_pieces(source, rows=rows, wanted=_all, piece_bytes=PIECE_BYTES, limits=limits)
        elif media_type == PARQUET:
            file = self._set_aside(source, stack)
            parquet = stack.enter_context(closing(DecodedParquet(file, decode, self.spool, rows=rows)))
            found = parquet_pieces(parquet, rows=rows, wanted=_all, check=check)
        else:
            found = arrow_pieces(source, rows=rows, wanted=_all, check=check, limits=limits)
        opened = 0
        for piece in found:
            if piece.error is not None:
                raise piece.error
            raw = piece.raw
            assert raw is not None
            opened += raw.table.nbytes if raw.table is not None else 0
            if media_type in (PARQUET, ARROW) and opened > settings.max_stream_bytes:
                raise LimitExceeded(
                    f"the body opens to more than {settings.max_stream_bytes:,} bytes",
                    code="body_too_large",
                    where="body",
                )
            if raw.table is None:
                limits.check(columns=max(map(len, raw.rows), default=0))
            else:
                raw = set_long_cells_aside(raw, limits.max_cell_bytes)
            yield scorer.to_tensor(raw)

    def _array(self, source: io.BufferedReader, stack: ExitStack) -> Iterator[TensorItems]:
        scorer = self.preprocessor
        header = read_header(io.BytesIO(source.peek(READ_BYTES)))
        rows = _rows_a_piece(scorer, header.row_bytes)

        if header.fortran_order:
            file = self._set_aside(source, stack)
            read_header(file)
            blocks = fortran_blocks(file, header, rows=rows, check=scorer.to_tensor)
        else:
            read_header(source)
            blocks = npy_blocks(source, header, rows=rows, check=scorer.to_tensor)
        for block in blocks:
            yield scorer.to_tensor(block)

    def _images(self, file: BinaryIO, decode: Decode) -> Iterator[TensorItems]:
        """The images of a zip, some at a time; a member that cannot be read is one bad item."""
        settings = self.settings
        bounded = cast("BinaryIO", BoundedReads(file, READ_BYTES + MEMBER_BYTES * settings.max_files))
        try:
            archive = zipfile.ZipFile(bounded)
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
            raise DecodeError(f"not readable as a zip: {error}", where="body") from error
        with archive:
            members = list(zip_images(archive))
            if not members:
                raise DecodeError("the zip holds no images outside of hidden folders", code="zip_empty", where="body")
            if len(members) > settings.max_files:
                raise LimitExceeded(f"{len(members):,} files; at most {settings.max_files:,} are taken", where="body")
            opened = 0
            files: list[tuple[str, bytes, ItemError | None]] = []
            for i, info in enumerate(members, start=1):
                error_of: ItemError | None = None
                data = b""
                try:
                    announce(2 * info.file_size)
                    data = read_member(archive, info, max_bytes=settings.max_body_bytes)
                except DecodeError as error:
                    error_of = ItemError(error.message, code="image_unreadable", where=info.filename)
                files.append((info.filename, data, error_of))
                opened += len(data)
                if opened > settings.max_stream_bytes:
                    raise LimitExceeded(
                        f"the zip opens to more than {settings.max_stream_bytes:,} bytes",
                        code="body_too_large",
                        where="body",
                    )
                full = len(files) == PIECE_IMAGES or sum(len(one) for _, one, _ in files) > PIECE_BYTES
                if full or i == len(members):
                    yield self._read_images(files, decode)
                    files = []

    def _read_images(self, files: list[tuple[str, bytes, ItemError | None]], decode: Decode) -> TensorItems:
        items: TensorItems = decode("images", [data for _, data, _ in files], [name for name, _, _ in files])
        items.errors.update({i: error for i, (_, _, error) in enumerate(files) if error is not None})
        return items

    def _set_aside(self, source: io.BufferedReader, stack: ExitStack) -> io.BufferedRandom:
        """The whole body on disk, at its start, until `stack` ends."""
        file = stack.enter_context(closing(SpoolFile(self.spool)))
        file.copy(source)
        return file.file


class DecodedParquet:
    """A Parquet file on disk that decoder processes read, `rows` rows at a time; a row group waits in the spool."""

    def __init__(self, file: io.BufferedRandom, decode: Decode, spool: Spool, *, rows: int) -> None:
        self.file = file
        self.decode = decode
        self.spool = spool
        self.rows = rows
        self._held: SpoolFile | None = None

    def close(self) -> None:
        """Give back the room of the row group that was read last."""
        if self._held is not None:
            self._held.close()

    def head(self) -> ParquetHead:
        """Raises DecodeError, LimitExceeded."""
        found: ParquetHead = self.decode("parquet_head", files=(self.file.fileno(),))
        return found

    def batches(self, group: int) -> Iterator[pa.Table]:
        """The rows of a row group. Raises DecodeError, LimitExceeded after those before the break, SpoolFull."""
        self.close()
        held = self._held = self.spool.open()
        failure: DataError | None = None
        parts: list[tuple[int, int]] = []
        try:
            self.decode(
                "parquet_group",
                group,
                self.rows,
                files=(self.file.fileno(),),
                on_piece=lambda piece: parts.append((held.write(piece), len(piece))),
            )
        except DataError as error:
            failure = error
        for place, size in parts:
            yield pyarrow.ipc.open_stream(held.read(place, size)).read_all()
        if failure is not None:
            raise failure


@contextmanager
def unpacking() -> Iterator[None]:
    """A gzip that breaks off where nothing is kept of it becomes DecodeError."""
    try:
        yield
    except BrokenGzip as error:
        raise DecodeError(str(error), where="body") from error


class BoundedReads:
    """A file of which no single read may take more than `max_bytes`, whatever a header says. Raises LimitExceeded.

    What begins with such a length is no such file: OSError.
    """

    def __init__(self, file: BinaryIO, max_bytes: int) -> None:
        self.file = file
        self.max_bytes = max_bytes
        self.readable, self.seekable, self.tell = file.readable, file.seekable, file.tell
        self.seek = file.seek
        self.begun = False

    @property
    def closed(self) -> bool:
        return self.file.closed

    def writable(self) -> bool:
        return False

    def peek(self, size: int) -> bytes:
        return cast("io.BufferedReader", self.file).peek(size)

    def read(self, size: int = -1) -> bytes:
        if size > self.max_bytes:
            message = f"a part of the body has {size:,} bytes; at most {self.max_bytes:,} are read at once"
            if not self.begun:
                raise OSError(message)
            raise LimitExceeded(message, where="body")
        self.begun = self.begun or size > PREFIX_BYTES
        return self.file.read(size)

    def close(self) -> None:
        self.file.close()


def _all(_: int) -> bool:
    return True


def _rows_a_piece(scorer: Preprocessor, row_bytes: int = 0) -> int:
    """Rows that are decoded at once: fewer where they are long."""
    cells = math.prod(scorer.schema.event)
    return max(1, min(PIECE_ROWS, PIECE_CELLS // cells, PIECE_BYTES // max(1, row_bytes)))
