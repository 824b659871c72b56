"""How long the report may take, and who else may end it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from training.report.facts import NotChecked


@dataclass
class Budget:
    """`seconds` from now on; `stop` is asked whether the caller wants an end, and then the budget is over too."""

    seconds: float
    stop: Callable[[], bool] = lambda: False
    started: float = field(default_factory=time.monotonic)
    whole: float | None = None
    """Seconds of the budget that this one is a share of."""

    @property
    def spent(self) -> float:
        return time.monotonic() - self.started

    @property
    def left(self) -> float:
        """Seconds, at least 0."""
        return 0.0 if self.stop() else max(0.0, self.seconds - self.spent)

    def over(self) -> bool:
        return self.left == 0.0

    def share(self, part: float) -> "Budget":
        """A budget of `part` of what is left."""
        return Budget(self.left * part, self.stop, whole=self.seconds if self.whole is None else self.whole)

    @property
    def not_checked(self) -> NotChecked:
        """What a part says that was not reached."""
        if self.stop():
            return NotChecked("the report was interrupted")
        whole = self.seconds if self.whole is None else self.whole
        return NotChecked(f"the report's budget of {whole:.3g} s was spent")
