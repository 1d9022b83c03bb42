"""A source as a form looks at it: loaded once until its files change, since that and timing steps take a while."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from quintet.core.errors import UsageError
from quintet.core.listening import unheard
from quintet.fit.fitting import reading_of
from quintet.operations.estimating import EstimateResult, estimate
from quintet.operations.requests import CompareRequest, RecommendRequest, TrainRequest
from quintet.operations.training import plan
from quintet.registry import FAMILIES, refusal
from quintet.runs.config import RunConfig, seconds
from quintet.runs.task import names_columns
from quintet.sources.load import Dataset, load_source
from quintet.studio.forms import Field, columns, fields
from quintet.studio.previews import stamp

if TYPE_CHECKING:
    from quintet.operations.measuring import RecommendResult

MUTEX = threading.Lock()


@dataclass(frozen=True)
class Looked:
    """A source and how it is read, in JSON; `stamp` changes with its files."""

    source: str
    reading: str
    stamp: tuple[int, ...]

    def dataset(self) -> Dataset:
        """Its items."""
        with MUTEX, unheard():
            return loaded(self)

    def facts(self) -> dict[str, Any]:
        """What it is, what can be modelled and given, and why families cannot make such items."""
        found = self.dataset()
        refused = {name: refusal(name, found.modality, "sample") for name in FAMILIES}
        return {
            "kind": found.modality, "items": len(found.items), "columns": columns(found),
            "labelled": found.labels is not None, "refused": {name: why for name, why in refused.items() if why},
        }  # fmt: skip

    def advice(self, budget: str) -> RecommendResult:
        """Which family to begin with for each purpose."""
        return advised(self, budget)

    def plan(self, asks: TrainRequest) -> RunConfig:
        """The complete configuration of a training on it."""
        return plan(asks, self.dataset())

    def check(self, asks: CompareRequest) -> None:
        """Raise what a comparison on it would, before it began."""
        found = self.dataset()
        seconds(asks.budget or "60s")
        if asks.condition not in ("auto", "none") and names_columns(found, asks.condition):
            found.column(asks.condition, "train")

    def fields(self, asks: TrainRequest) -> list[Field]:
        """Every setting of a training on it, with its default."""
        return fields(self.plan(asks), self.dataset())

    def estimate(self, asks: TrainRequest) -> EstimateResult:
        """What the training will take of this machine."""
        return estimated(self, asks.model_dump_json(exclude={"run"}))

    def changes(self, asks: TrainRequest, config: RunConfig) -> dict[str, str]:
        """The settings of a run's configuration that are not those of what the form asks for, as they are typed."""
        usual = {one.key: one.default for one in self.fields(asks)}
        chosen = fields(config, self.dataset())
        return {one.key: one.default for one in chosen if one.default != usual.get(one.key, one.default)}


def looked_at(request: TrainRequest | CompareRequest) -> Looked:
    """The source of a request. Raises UsageError if it has none, ConfigError for how none is read."""
    source = request.data if isinstance(request, TrainRequest) else request.what[0]
    if not source:
        raise UsageError("no data were chosen", where="data", why="a model is trained on data", fix="choose a source")
    reading = reading_of({"data": request.reading})
    return Looked(source, json.dumps(reading, sort_keys=True, default=str), tuple(stamp(source)))


@lru_cache(4)
def loaded(look: Looked) -> Dataset:
    return load_source(look.source, **json.loads(look.reading))


@lru_cache(32)
def advised(look: Looked, budget: str) -> RecommendResult:
    from quintet.operations.measuring import recommended  # which loads much that the studio begins without

    found = look.dataset()
    with unheard():
        return recommended(RecommendRequest(source=look.source, budget=budget), found, timed=False)


@lru_cache(64)
def estimated(look: Looked, asks: str) -> EstimateResult:
    return estimate(TrainRequest.model_validate_json(asks), look.dataset())
