"""What a program calls: `train`, `resume`, `distil` and `load` give a `Model`, `compare` a report on several."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec

from quintet.api.model import Model
from quintet.comparison.compare import compare
from quintet.fit import fitting
from quintet.modalities.frames import is_frame, library
from quintet.model.fitted import Fitted

__all__ = ["compare", "distil", "load", "resume", "train"]

P = ParamSpec("P")


def with_containers(verb: Callable[P, Fitted]) -> Callable[P, Model]:
    """The same function, but the model that it returns takes items in any container, and one that was trained on a
    data frame samples such frames.
    """

    @functools.wraps(verb)
    def call(*args: P.args, **kwargs: P.kwargs) -> Model:
        data = kwargs.get("data")
        return Model(verb(*args, **kwargs), library(data) if is_frame(data) else None)

    call.__signature__ = inspect.signature(verb).replace(return_annotation="Model")  # type: ignore[attr-defined]
    return call


train, resume = with_containers(fitting.train), with_containers(fitting.resume)
distil, load = with_containers(fitting.distil), with_containers(fitting.load)
