"""Workbooks of Excel and OpenDocument as CSV, so that one set of rules reads both; by python-calamine."""

import csv
import datetime
import io
from dataclasses import dataclass
from pathlib import Path

from elbound.errors import DecodeError, UnsupportedMedia

WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".ods")


@dataclass(frozen=True)
class SheetCsv:
    """The first sheet with rows as CSV in UTF-8, a line for each row; `note` says which other sheets have any."""

    text: bytes
    note: str | None = None


def read_workbook(path: Path) -> SheetCsv:
    """The first sheet of a workbook that has rows. Raises DecodeError, and UnsupportedMedia without python-calamine."""
    try:
        from python_calamine import CalamineError, CalamineWorkbook, SheetTypeEnum, SheetVisibleEnum
    except ImportError as error:
        raise UnsupportedMedia(
            f"{path} is a workbook, which needs the extra `train` (pip install 'elbound[train]'); or save it as CSV",
            where=str(path),
        ) from error
    try:
        with CalamineWorkbook.from_path(str(path)) as book:
            sheets = {
                one.name: book.get_sheet_by_name(one.name).to_python(skip_empty_area=False)
                for one in book.sheets_metadata
                if one.typ == SheetTypeEnum.WorkSheet and one.visible == SheetVisibleEnum.Visible
            }
    except (CalamineError, OSError) as error:
        raise DecodeError(f"{path} cannot be read as a workbook: {error}", where=str(path)) from error
    filled = [name for name, rows in sheets.items() if rows]
    if not filled:
        raise DecodeError(f"{path}: no sheet of the workbook has rows", where=str(path))
    note = None
    if len(filled) > 1:
        note = f"the sheet {filled[0]!r} is read; {len(filled) - 1:,} more with rows, as {filled[1]!r}, passed over"
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows([_text(cell) for cell in row] for row in sheets[filled[0]])
    return SheetCsv(text.getvalue().encode("utf-8", "replace"), note)


def _text(cell: object) -> str:
    """A cell on one line: whole numbers without a point, times in ISO 8601, errors of formulas as they are shown."""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return str(int(cell))
    if isinstance(cell, datetime.datetime):
        return cell.isoformat(sep=" ")
    return " ".join(str(cell).split("\n")).replace("\r", " ")
