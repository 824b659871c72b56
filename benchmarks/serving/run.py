"""How much is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """`rounds` of so many seconds: of wrk, of the open loop, without a load; and of a trial of settings."""

    rounds: int = 5
    seconds: int = 2
    tail_seconds: int = 4
    idle_seconds: int = 5
    trial_seconds: int = 2


QUICK = Pace(rounds=1, seconds=1, tail_seconds=2, idle_seconds=2, trial_seconds=1)
