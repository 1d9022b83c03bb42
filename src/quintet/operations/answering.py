"""What a loaded model can be asked, verb by verb, all in memory: for apps whose items came otherwise than in files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from quintet.model.fitted import Fitted
from quintet.model.inputs import Found
from quintet.operations import completing, latents, requests, sampling, scoring
from quintet.operations.events import OnEvent, heard
from quintet.operations.fitted import Made


class Verb(NamedTuple):
    """The request of a verb, what answers it, and what must come beside it: "items", "given" (conditions alone, which
    may be left out where the request has them) or "" (nothing).
    """

    request: type[requests.Request]
    answer: Callable[[Fitted, Any, Found, OnEvent], Made]
    needs: str = "items"


def evaluated(model: Fitted, request: requests.Evaluate, found: Found, on_event: OnEvent) -> Made:
    """See `measuring.evaluated`, which loads much that no other verb needs."""
    from quintet.operations import measuring

    return measuring.evaluated(model, request, found, on_event)


VERBS = {
    "sample": Verb(requests.Sample, sampling.sampled, "given"),
    "translate": Verb(requests.Translate, sampling.translated, "given"),
    "classify": Verb(requests.Classify, scoring.labelled, "given"),
    "score": Verb(requests.Score, scoring.scored),
    "rank": Verb(requests.Rank, scoring.ranked),
    "complete": Verb(requests.Complete, completing.completed),
    "encode": Verb(requests.Encode, latents.encoded),
    "reconstruct": Verb(requests.Reconstruct, latents.reconstructed),
    "interpolate": Verb(requests.Interpolate, latents.interpolated),
    "evaluate": Verb(requests.Evaluate, evaluated, ""),
}
"""By the names that apps have for them."""


def answer(
    verb: str, model: Fitted, request: requests.Request, found: Found, on_event: OnEvent, *, steps: bool = True
) -> Made:
    """What a loaded model answers to the request of a verb, about these items or conditions. Without `steps` it is not
    told how far the work is, for which a thread would be woken at each symbol of a text.
    """
    with heard(on_event, steps=steps):
        return VERBS[verb].answer(model, request, found, on_event)
