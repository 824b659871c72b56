"""Rows per second of one key: whoever is not in debt is admitted, and charged once the rows are counted."""

import asyncio
import math
import time
from collections.abc import Callable

UNLIMITED = math.inf


class Quota:
    """A balance that grows by `rows_per_s` to at most `burst_rows`; what a request costs may take it below zero.

    Kept as the one time, on the monotonic clock, at which the balance is zero.
    """

    def __init__(self, rows_per_s: float, burst_rows: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.zero_at = -math.inf
        self.counting = asyncio.Lock()
        """Held by the one request whose rows are not counted yet; the others come in their order."""
        self.rows_per_s = rows_per_s
        self.change(rows_per_s, burst_rows)

    def change(self, rows_per_s: float, burst_rows: float) -> None:
        """Other terms from now on; a debt stays as many rows."""
        if self.debt_s > 0:
            self.zero_at = self.clock() + self.debt_s * self.rows_per_s / rows_per_s
        self.rows_per_s = rows_per_s
        self.burst_s = 0.0 if rows_per_s == UNLIMITED else burst_rows / rows_per_s

    @property
    def limited(self) -> bool:
        """Whether rows cost anything."""
        return self.rows_per_s != UNLIMITED

    @property
    def debt_s(self) -> float:
        """Seconds until the balance is not below zero; 0 where it is not."""
        return max(0.0, self.zero_at - self.clock())

    def admit(self, rows: int) -> float:
        """Take `rows` from the balance unless it is below zero; the seconds of debt that keep them out, else 0."""
        now = self.clock()
        if self.zero_at > now:
            return self.zero_at - now
        self.zero_at = max(self.zero_at, now - self.burst_s) + rows / self.rows_per_s
        return 0.0

    def charge(self, rows: int) -> None:
        """Take `rows` from the balance, however many they are."""
        self.zero_at = max(self.zero_at, self.clock() - self.burst_s) + rows / self.rows_per_s

    def give_back(self, rows: int) -> None:
        """Return `rows` that were taken to the balance."""
        self.zero_at -= rows / self.rows_per_s
