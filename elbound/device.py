"""Where tensors live (`auto`, `cpu` or `cuda`) and how a CPU's cores share the work."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

import torch

from elbound.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one. Raises ConfigError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind = name.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ConfigError(f"device must be auto, cpu or cuda. Got {name!r} instead", where="device")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is cuda, but torch sees no CUDA device here", where="device")
    return torch.device(name)


@cache
def cpu_workers() -> int:
    """Over how many threads chunks are spread: torch's own number when this was first asked.

    A server lowers that number thread by thread, and loads models later too.
    """
    return torch.get_num_threads()


@contextmanager
def one_thread() -> Iterator[None]:
    """Each of torch's operations in this thread runs on one core; then the caller's number is in force again.

    The operations of a small network are so short that several threads mostly wait for each other, and OpenMP waits
    by spinning: beside other work a fit of 120 rows took 20 times as long with two threads as with one.
    """
    cpu_workers()  # asked while the number is still torch's own
    own = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(own)


@cache
def chunk_pool(workers: int) -> ThreadPoolExecutor:
    """`workers` threads for chunks of items, each with one torch thread of its own.

    Products of this size gain little from several threads inside one operation, and lose a factor of ten
    where another process wants a core: the threads of an operation wait for each other. Chunks need not.
    """
    own = torch.get_num_threads()
    started = threading.Barrier(workers)

    def one_thread() -> None:
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(workers, "elbound-chunk", initializer=one_thread)
    list(pool.map(lambda _: None, range(workers)))
    torch.set_num_threads(own)  # a thread's setting is also the default of threads that start later
    return pool
