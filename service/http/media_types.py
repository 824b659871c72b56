"""The media types of uploads and answers, and how files and other names for them are understood."""

from elbound.data.image import FORMATS

JSON = "application/json"
NDJSON = "application/x-ndjson"
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"
ARROW = "application/vnd.apache.arrow.stream"
NPY = "application/x-npy"
ZIP = "application/zip"
MULTIPART = "multipart/form-data"
IMAGES = ("image/png", "image/jpeg", "image/webp", "image/bmp", "image/tiff")
ALIASES = {
    "application/ndjson": NDJSON,
    "application/jsonl": NDJSON,
    "application/x-parquet": PARQUET,
    "application/csv": CSV,
    "text/tab-separated-values": CSV,
    "image/jpg": "image/jpeg",
    "image/x-ms-bmp": "image/bmp",
    "application/x-zip-compressed": ZIP,
}
BY_SUFFIX = {
    ".csv": CSV, ".tsv": CSV, ".ndjson": NDJSON, ".jsonl": NDJSON, ".json": JSON, ".parquet": PARQUET,
    ".arrow": ARROW, ".npy": NPY, ".zip": ZIP,
    **{suffix: f"image/{kind.lower()}" for kind, suffixes in FORMATS.items() for suffix in suffixes},
}  # fmt: skip
MEDIA_TYPES = (JSON, NDJSON, CSV, PARQUET, ARROW, NPY, *IMAGES, ZIP, MULTIPART)
