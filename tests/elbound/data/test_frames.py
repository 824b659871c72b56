"""DataFrames of pandas and polars, Arrow tables and arrays: they work, or the error names the column."""

import datetime
import warnings
from collections.abc import Iterator
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from elbound import VAEDetector
from elbound.data.frames import as_table, without_mask
from elbound.data.infer import infer_schema
from elbound.errors import DataError, SchemaError

N = 120


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What is said of alpha on so few rows is tested elsewhere."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(decide no finer one|nothing can ever be an anomaly).*")
        yield


def numbers(n: int = N) -> np.ndarray:
    return np.random.default_rng(0).normal(20, 1, (n, 2))


def frame(**columns: object) -> pd.DataFrame:
    return pd.DataFrame(numbers(), columns=["w", "h"]).assign(**columns)


def detector(**settings: object) -> VAEDetector:
    return VAEDetector(profile="fast", steps=20, **settings)  # type: ignore[arg-type]


def kinds(table: object) -> dict[str, str]:
    found = as_table(table)
    assert found is not None
    return {column.name: column.kind for column in infer_schema(found).schema.columns}


COLUMNS = {
    "intervals of cut": (pd.cut(pd.Series(numbers()[:, 0]), 4), "categorical"),
    "category of ints": (pd.Categorical([3, 7] * (N // 2)), "categorical"),
    "category of text with a gap": (pd.Categorical([*["a", "b"] * (N // 2 - 1), None, "b"]), "categorical"),
    "category of booleans": (pd.Categorical([True, False] * (N // 2)), "boolean"),
    "numbers and a dash": ([1.5 + i % 9 if i != 3 else "-" for i in range(N)], "numeric"),
    "ints and text": ([1, "x"] * (N // 2), "categorical"),
    "booleans and text": ([True, "b"] * (N // 2), "categorical"),
    "nullable ints": (pd.array([*range(0, 2 * N - 4, 2), None, 7], dtype="Int64"), "numeric"),
    "nullable booleans": (pd.array([True, False, None] * (N // 3), dtype="boolean"), "boolean"),
    "string dtype": (pd.array(["n", "s", None] * (N // 3), dtype="string[pyarrow]"), "categorical"),
    "decimals": ([Decimal(i % 7) / 10 for i in range(N)], "numeric"),
    "sparse": (pd.arrays.SparseArray([0.0, 0.0, 1.5] * (N // 3)), "numeric"),
}


@pytest.mark.parametrize(("cells", "kind"), COLUMNS.values(), ids=COLUMNS)
def test_a_column_of_pandas_is_read_as_what_it_is(cells: object, kind: str) -> None:
    table = frame(c=cells)
    assert kinds(table)["c"] == kind
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = detector().fit(table)
    assert len(fitted.p_values(table.head(7))) == 7
    events = fitted.scorer_.to_tensor(table.head(7)).only().numpy()
    np.testing.assert_array_equal(events, fitted._tensor(table.head(7)).numpy())


@pytest.mark.parametrize("cell", [[1, 2], {"a": 1}, object(), 1j])
def test_a_cell_that_cannot_be_read_is_an_error_that_names_its_column(cell: object) -> None:
    cells = pd.Series([*["x"] * (N - 1), cell], dtype=object)
    with pytest.raises(DataError, match=r"'c'.*row 119 is of type"):
        as_table(frame(c=cells))


def test_names_of_pandas_columns() -> None:
    two_levels = frame()
    two_levels.columns = pd.MultiIndex.from_tuples([("left", 1), ("right", 2)])
    assert list(kinds(two_levels)) == ["left.1", "right.2"]
    numbered = frame()
    numbered.columns = pd.Index([0, 1])
    assert list(kinds(numbered)) == ["0", "1"]
    doubled = frame()
    doubled.columns = pd.Index(["w", "w"])
    with pytest.raises(SchemaError, match="columns appear twice: 'w'"):
        as_table(doubled)
    assert list(kinds(frame().sample(frac=1, random_state=0).set_index("w"))) == ["h"]


def test_frames_of_polars() -> None:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    cells = {
        "text": ["north", "south"] * (N // 2),
        "category": polars.Series(["a", "b"] * (N // 2), dtype=polars.Categorical),
        "enum": polars.Series(["3", "7"] * (N // 2), dtype=polars.Enum(["3", "7"])),
        "day": [datetime.date(2026, 1, 1 + i % 9) for i in range(N)],
    }
    table = polars.DataFrame({"a": numbers()[:, 0], **cells})
    assert kinds(table) == {"a": "numeric", "text": "categorical", "category": "categorical", "enum": "categorical"}
    with pytest.warns(UserWarning, match="'day' is left out"):
        fitted = detector().fit(table)
    assert len(fitted.predict(table.head(5))) == 5
    assert fitted.scorer_.to_tensor(table.head(3)).only().shape == (3, 4)


def test_an_arrow_table_of_dictionaries_and_views() -> None:
    table = pa.table(
        {
            "a": numbers()[:, 0],
            "codes": pa.array([10, 20] * (N // 2)).dictionary_encode(),
            "view": pa.array(["x", "y"] * (N // 2), pa.string_view()),
        }
    )
    assert kinds(table) == {"a": "numeric", "codes": "categorical", "view": "categorical"}
    fitted = detector().fit(table)
    assert fitted.scorer_.schema.columns[1].levels == ("10", "20")  # type: ignore[union-attr]
    assert len(fitted.p_values(table)) == N


def test_a_masked_cell_is_a_missing_one() -> None:
    rows = numbers()
    hidden = np.ma.masked_array(rows, np.zeros(rows.shape, bool))
    hidden[0, 0] = np.ma.masked
    hidden.data[0, 0] = -999.0
    missing = rows.copy()
    missing[0, 0] = np.nan
    fitted, expected = detector().fit(hidden), detector().fit(missing)
    np.testing.assert_array_equal(fitted.p_values(hidden), expected.p_values(missing))
    np.testing.assert_array_equal(fitted.scorer_.to_tensor(hidden).only(), fitted.scorer_.to_tensor(missing).only())
    whole = np.ma.masked_array(np.zeros((3, 8, 8), np.uint8), False)
    assert without_mask(whole).dtype == np.uint8
    whole[0, 0, 0] = np.ma.masked
    with pytest.raises(DataError, match="masked pixels"):
        without_mask(whole)


def test_an_array_after_a_frame_is_read_by_position() -> None:
    table = frame(id=np.arange(N), line=["a", "b"] * (N // 2))
    with pytest.warns(UserWarning, match="'id' is left out"):
        fitted = detector().fit(table)
    expected = fitted.p_values(table)
    with pytest.warns(UserWarning, match="its columns are read as 'w', 'h', 'id', 'line'"):
        np.testing.assert_array_equal(fitted.p_values(table.to_numpy()), expected)
    with pytest.raises(
        SchemaError, match=r"shape \(n, 4\) as in fit is expected, but got an array of shape \(120, 2\)"
    ):
        fitted.predict(numbers())


def test_a_frame_after_an_array_is_read_by_position() -> None:
    fitted = detector().fit(numbers())
    expected = fitted.p_values(numbers())
    np.testing.assert_array_equal(fitted.p_values(frame()), expected)
    with pytest.raises(SchemaError, match=r"fitted on an array of numbers; column 'h' is of type"):
        fitted.predict(frame(h=["a"] * N))


def test_lists_and_other_shapes() -> None:
    fitted = detector().fit(numbers().tolist())
    assert len(fitted.predict(numbers().tolist())) == N
    with pytest.raises(DataError, match="column 1 of the array holds text"):
        detector().fit([[1.0, "north"]] * N)
    with pytest.raises(ValueError, match="DataFrame"):
        fitted.predict(frame()["w"])
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match="parse"):
        fitted.predict(sparse.csr_matrix(numbers()))
