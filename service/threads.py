"""Threads that one kind of work has to itself, so that nothing else can keep it waiting."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class OwnThreads(ThreadPoolExecutor):
    """At most `number` threads, called `elbound-NAME`, which start when they are first needed.

    `asyncio.to_thread` shares one small pool among all: uploads that decode for minutes fill it.
    """

    def __init__(self, name: str, number: int = 1) -> None:
        super().__init__(number, f"elbound-{name}")

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `function` returns or raises, called in one of the threads within the caller's context."""
        call = partial(contextvars.copy_context().run, function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self, call)
