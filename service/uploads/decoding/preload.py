"""What the process loads of which decoders are copies; imported there alone.

Objects that are loaded here are never collected: the collector would write to each of them, and so copy the memory
that all decoders share.
"""

import gc

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
from PIL import Image

from service.uploads.decoding import tasks, worker  # noqa: F401

Image.init()
pa.array([0.0])  # which looks for pandas
gc.collect()
gc.freeze()
