"""The thread that reads and loads versions, which a bucket that is gone may keep for minutes."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch

STOP_PATIENCE_S = 3.0
"""A server that stops waits so long for what is being loaded."""
MAX_LATE = 4
"""So many calls may be late and not ended; each holds a thread and memory, and no thread can be killed."""

T = TypeVar("T")


class Loader:
    """One thread beside the event loop, with one thread of torch; one that is late is left alone and replaced."""

    def __init__(self) -> None:
        self.threads = _one_thread()
        self.under_way: Future[Any] = Future()
        self.under_way.set_result(None)
        self.late: list[Future[Any]] = []

    @property
    def is_busy(self) -> bool:
        return not all(future.done() for future in (self.under_way, *self.late))

    async def __call__(self, call: Callable[..., T], *arguments: object, within_s: float | None = None) -> T:
        """What blocks, in the thread. Raises TimeoutError, which says so in a sentence, after `within_s`."""
        self.late = [future for future in self.late if not future.done()]
        if within_s is not None and len(self.late) >= MAX_LATE:
            raise TimeoutError(f"{MAX_LATE} others took too long and have not ended; restart the server")
        future = self.under_way = self.threads.submit(call, *arguments)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), within_s)
        except TimeoutError as error:
            if future.done():
                raise
            self.late.append(future)
            self.threads.shutdown(wait=False)
            self.threads = _one_thread()
            raise TimeoutError(f"it took more than {within_s:g} s (load_timeout_s)") from error

    def close(self) -> None:
        """Begin nothing more, and wait for nothing."""
        self.threads.shutdown(wait=False, cancel_futures=True)


def _one_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "elbound-loader", initializer=torch.set_num_threads, initargs=(1,))


async def unless_stopping(work: Coroutine[Any, Any, None], stopping: asyncio.Event) -> None:
    """Do `work`; once `stopping` is set, wait for it no longer than `STOP_PATIENCE_S`."""
    task, stop = asyncio.ensure_future(work), asyncio.ensure_future(stopping.wait())
    await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not task.done():
        await asyncio.wait([task], timeout=STOP_PATIENCE_S)
    if not task.done():
        task.cancel()
        return
    await task
