"""What the name of a column says: an identifier, a time, a label, or a row number that a library wrote."""

import re

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\sA-Za-z0-9_.\-/]+")
ROW_NUMBER = re.compile(r"^$|^unnamed: \d+(_level_\d+)?(\.\d+)*$|^__index_level_\d+__$|^\.\.\.1$|^_c0$", re.IGNORECASE)
MAYBE_ROW_NUMBER = re.compile(r"^level_\d$|^index$|^rownames?$|^row_?num(ber)?$|^rowid$|^X$")
"""Names that a library writes for row numbers, and that people write too."""

ID_WORDS = frozenset((
    "id", "ids", "uid", "uids", "oid", "pk", "key", "uuid", "guid", "index", "idx", "rowid", "rownum", "row",
    "rowname", "rownames", "no", "nr", "num", "number", "#", "seq", "sequence", "serial", "sn", "recno", "imei",
    "isbn", "ssn", "vin", "barcode", "sku", "hash", "token", "phone", "telephone", "telefon", "mobile", "fax", "iban",
))  # fmt: skip
ID_ENDING = re.compile(
    r"^(account|asset|batch|case|client|customer|device|driver|employee|equipment|event|invoice|item|job|lot|machine|member"
    r"|message|object|order|part|patient|person|product|record|row|run|sample|sensor|serial|session|shop|station|store"
    r"|student|ticket|transaction|trans|trip|unit|user|vehicle|visitor)(id|no|nr|num|number|key)s?$"
)
STRONG_ID_WORDS = frozenset({"id", "ids", "uid", "uids", "uuid", "guid"})
TIME_WORDS = frozenset((
    "date", "datetime", "day", "time", "timestamp", "ts", "tstamp", "epoch", "unix", "unixtime", "utc",
    "created", "updated", "modified", "datum", "zeit", "zeitstempel", "fecha", "when",
))  # fmt: skip
DAY_WORDS = frozenset({"date", "datetime", "datum", "fecha", "day", "timestamp", "tag"})
TIME_ENDING = re.compile(r"(date|time|timestamp|datum)$")
LABEL_WORDS = frozenset((
    "label", "labels", "target", "y", "class", "anomaly", "anomalous", "anomalies", "outlier", "outliers",
    "fraud", "fraudulent", "defect", "defective", "attack", "abnormal", "nok", "groundtruth", "truth",
))  # fmt: skip
LABEL_FILLERS = frozenset((
    "is", "ok", "has", "flag", "true", "reported", "bool", "binary", "the", "col", "column", "gt", "ground", "not",
    "or", "n", "of", "status",
))  # fmt: skip


def words_of(name: str) -> list[str]:
    """The words of a name in lower case: `customerID` and `customer_id` are `customer`, `id`."""
    return [word.lower() for word in WORD.findall(name)]


def names_identifier(name: str) -> bool:
    """Whether the last word of `name` is one for identifiers."""
    words = words_of(name.rstrip(". "))
    return name == "X" or (bool(words) and (words[-1] in ID_WORDS or ID_ENDING.match(words[-1]) is not None))


def names_strong_identifier(name: str) -> bool:
    """Whether `name` ends in `id` or the like, which nothing that is measured does."""
    words = words_of(name)
    return bool(words) and words[-1] in STRONG_ID_WORDS


def names_time(name: str) -> bool:
    """Whether a word of `name` is one for times."""
    return any(word in TIME_WORDS or TIME_ENDING.search(word) for word in words_of(name))


def names_day(name: str) -> bool:
    """Whether a word of `name` is one for days."""
    return any(word in DAY_WORDS or word.endswith("date") for word in words_of(name))


def names_label(name: str) -> bool:
    """Whether every word of `name` speaks of a label: `is_anomaly`, `class`, but not `class_size`."""
    words = words_of(name)
    return bool(set(words) & LABEL_WORDS) and set(words) <= LABEL_WORDS | LABEL_FILLERS
