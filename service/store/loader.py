"""The thread that reads and loads versions, which a bucket that is gone may keep for minutes."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch

STOP_PATIENCE_S = 3.0
"""A server that stops waits so long for what is being loaded."""

T = TypeVar("T")


class Loader:
    """One thread beside the event loop, with one thread of torch."""

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(1, "elbound-loader", initializer=torch.set_num_threads, initargs=(1,))
        self.under_way: Future[Any] = Future()
        self.under_way.set_result(None)

    @property
    def is_busy(self) -> bool:
        return not self.under_way.done()

    async def __call__(self, call: Callable[..., T], *arguments: object) -> T:
        """What blocks, in the thread."""
        future = self.under_way = self.threads.submit(call, *arguments)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Begin nothing more, and wait for nothing."""
        self.threads.shutdown(wait=False, cancel_futures=True)


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
