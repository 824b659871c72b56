"""JSON rows of numbers straight to an array, without a Python object for each cell."""

import numpy as np
import simdjson

from elbound.files.json_bounds import MOST_BYTES, check_size


def json_matrix(data: bytes, *, max_bytes: int = MOST_BYTES) -> np.ndarray | None:
    """Rows `(n, d)` float64 of `[[1, 2], ...]` or `{"rows": [[1, 2], ...]}`; None for any other document.

    Who gets None reads it as objects, and finds out what is the matter if anything is. Costs a third of that.
    Raises LimitExceeded for more cells than `max_bytes` hold.
    """
    check_size(data, max_bytes)
    if data[:1] not in (b"[", b"{"):  # simdjson passes over a byte order mark
        return None
    try:
        document = simdjson.Parser().parse(data)
        rows = document["rows"] if isinstance(document, simdjson.Object) and len(document) == 1 else document
        if not isinstance(rows, simdjson.Array):
            return None
        widths = {len(row) for row in rows}  # type: ignore[arg-type]  # what has no length raises TypeError
        cells = np.frombuffer(rows.as_buffer(of_type="d"), dtype=np.float64)
    except (KeyError, RuntimeError, TypeError, ValueError):
        return None
    n = len(rows)
    # Cells are numbers, so there is no text, and every bracket is one of a row.
    if len(widths) != 1 or widths == {0} or data.count(b"[") != n + 1 or len(cells) != n * min(widths):
        return None
    return cells.reshape(n, -1)
