"""What training does about NaN and Inf: it skips updates, then goes back to its last checkpoint, then stops."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quintet.core.errors import Diverged
from quintet.training.engine import Engine
from quintet.training.saving import Groups

MOST_SKIPPED = 10
"""After so many updates in a row that were skipped, training goes back."""
MOST_BACK = 3
"""It stops where it would go back once more."""
Kept = tuple[Groups, dict[str, Any]]
"""Tensors and state of a checkpoint."""


class LookLeft(Exception):
    """A look was left before its end, since training is to stop: whoever goes on from here looks first."""


@dataclass
class Guard:
    """Counts the updates that were `skipped` in a row until now and, `lost`, in all; how often training went `back`;
    and the steps whose items it then `passed` over. `kept` reads the last good checkpoint, where there is one.
    """

    skipped: int = 0
    lost: int = 0
    back: int = 0
    passed: int = 0
    kept: Callable[[], Kept | None] = lambda: None

    def state(self) -> dict[str, int]:
        """The counts, as a checkpoint has them."""
        return {"skipped": self.skipped, "lost": self.lost, "back": self.back, "passed": self.passed}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Set what `state` gave."""
        self.skipped, self.lost, self.back, self.passed = (int(state.get(name, 0)) for name in self.state())

    def count(self, bad: bool, step: int, losses: Mapping[str, float]) -> Diverged | None:
        """Count an update. The error that it is when so many in a row were skipped that training is to go back."""
        self.skipped = self.skipped + 1 if bad else 0
        self.lost += bad
        if self.skipped < MOST_SKIPPED:
            return None
        return Diverged(
            f"the loss or gradients were NaN or infinite in {MOST_SKIPPED} updates in a row",
            where=f"step {step}",
            why=f"the last losses were {dict(losses)}",
            fix="lower --training.lr; the saved checkpoints contain no NaN",
        )

    def last_good(self, engine: Engine, error: Diverged) -> Kept | None:
        """What training goes back to, on the first rank; None on others. Raises the error where there is no checkpoint,
        or where going back did not help.
        """
        found = self.kept() if self.back < MOST_BACK and engine.first else None
        if not engine.any(found is not None):
            raise error
        return found


def weights_gone(bad: Sequence[str], step: int, losses: Mapping[str, float]) -> Diverged:
    """The error that it is when these weights are no numbers any more."""
    return Diverged("the weights, or what the optimiser keeps of them, became NaN or infinite", where=f"step {step}",
                    why=f"these are affected: {', '.join(bad[:3])}; the last losses were {dict(losses)}",
                    fix="lower --training.lr; the saved checkpoints contain no NaN")  # fmt: skip
