"""How much memory a reader is about to take, said before it takes it.

Who limits the memory of a thread sets, with `asking`, who is asked there; elsewhere nobody is.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Ask = Callable[[int], None]
_ask: ContextVar[Ask | None] = ContextVar("ask", default=None)


@contextmanager
def asking(ask: Ask) -> Iterator[None]:
    """Within, `ask` is called with a number of bytes before they are taken; it raises where they may not be."""
    token = _ask.set(ask)
    try:
        yield
    finally:
        _ask.reset(token)


def announce(size: int) -> None:
    """Say that `size` bytes more than now will be held at once. Raises what the one who is asked raises."""
    ask = _ask.get()
    if ask is not None:
        ask(size)
