"""What is accepted as a rule of a table: what every training row keeps and many would not by chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from quintet.core.random import some
from quintet.modalities.table.columns import Column
from quintet.modalities.table.rules import Relation, Values

BROKEN, BROKEN_SHARE = 30, 0.01
"""A rule is one if so many rows, and this part of them, would break it were its target shuffled."""
ROWS, GLANCE = 20_000, 400
"""Training rows that are searched, and those that a candidate is looked at first by."""


class Search:
    """What was found so far, at most one rule a target, and no column that follows from itself."""

    def __init__(self, columns: Sequence[Column], values: Values, wanted: set[str] | None) -> None:
        self.columns = {column.name: column for column in columns}
        self.values, self.wanted = values, wanted
        self.rows = len(next(iter(values.values())))
        generator = np.random.default_rng(0)
        rows = generator.permutation(some(self.rows, ROWS, 0))  # its beginning says what all do, if a file is sorted
        self.sample = {name: own[rows] for name, own in values.items()}
        mixed = generator.permutation(len(rows))
        self.shuffled = {name: own[mixed] for name, own in self.sample.items()}
        self.found: list[Relation] = []
        self.needs: dict[str, set[str]] = {}

    def open(self, target: str, sources: Sequence[str]) -> bool:
        """Whether a column may follow from these."""
        wanted = self.wanted is None or target in self.wanted
        back = any(target == name or target in self.needs.get(name, ()) for name in sources)
        return wanted and target not in self.needs and not back

    def take(self, rule: Relation) -> None:
        if self.open(rule.target, rule.sources):
            self.found.append(rule)
            below = set(rule.sources).union(*(self.needs.get(name, set()) for name in rule.sources))
            self.needs[rule.target] = below
            for needs in self.needs.values():
                if rule.target in needs:
                    needs |= below

    def sorted(self) -> tuple[Relation, ...]:
        """Each rule behind those that its sources follow from."""
        left, out = list(self.found), list[Relation]()
        while left:
            waiting = {rule.target for rule in left}
            ready = next(rule for rule in left if not waiting & set(rule.sources))
            left.remove(ready)
            out.append(ready)
        return tuple(out)

    def certain(self, rule: Relation) -> bool:
        """Whether all training rows keep it, and many would not were the target shuffled."""
        if not rule.kept(self.sample).all() or not rule.kept(self.values).all():
            return False
        broken = (~rule.kept({**self.sample, rule.target: self.shuffled[rule.target]})).mean()
        return bool(broken >= BROKEN_SHARE and broken * self.rows >= BROKEN)
