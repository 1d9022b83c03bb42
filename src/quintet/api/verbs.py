"""Train, resume and load, as a program calls them: each gives a `Model`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

from quintet.api.model import Model
from quintet.fit import api
from quintet.modalities.frames import is_frame, library
from quintet.model.fitted import Fitted

P = ParamSpec("P")


def with_containers(verb: Callable[P, Fitted]) -> Callable[P, Model]:
    """The same verb with a model that takes whatever holds items, and samples frames if it was trained on one."""

    @functools.wraps(verb)
    def call(*args: P.args, **kwargs: P.kwargs) -> Model:
        data = kwargs.get("data")
        return Model(verb(*args, **kwargs), library(data) if is_frame(data) else None)

    return call


train, resume, load = with_containers(api.train), with_containers(api.resume), with_containers(api.load)
