"""What a loaded model can be asked, verb by verb, all in memory: for apps whose items came otherwise than in files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from quintet import registry
from quintet.core.codec import Codec
from quintet.model.fitted import Fitted
from quintet.model.inputs import Found
from quintet.operations import completing, latents, requests, sampling, scoring
from quintet.operations.events import OnEvent, heard
from quintet.operations.fitted import Made, brought
from quintet.registry import MODALITIES, family_class
from quintet.runs.folder import Run


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

NEEDS = registry.VERBS | {"rank": registry.VERBS["score"]}
"""Which operations of a family each verb needs; what is not here is asked for by its own name."""


def answer(
    verb: str, model: Fitted, request: requests.Request, found: Found, on_event: OnEvent, *, steps: bool = True
) -> Made:
    """What a loaded model answers to the request of a verb, about these items or conditions. Without `steps` it is not
    told how far the work is, for which a thread would be woken at each symbol of a text.
    """
    with heard(on_event, steps=steps):
        return VERBS[verb].answer(model, request, found, on_event)


# -- what a run's model can be asked, known before it is loaded --------------------------------------------------------


def refusals(run: Run, codecs: Mapping[str, Codec]) -> dict[str, str]:
    """Why the model of a run does not answer each verb; "" for those that it answers."""
    family, about = family_class(run.config().family), run.manifest().get("model") or {}
    missing, likelihood = about.get("missing", family.missing), about.get("likelihood", family.likelihood)
    codec, given = codecs["x"], codecs.get("cond")
    names = given is not None and codec.labels is not None and likelihood == "exact"
    marked = MODALITIES[codec.modality].marked(codec) and given is not None and given.space.sequence
    texts = marked and given is not None and given.modality == codec.modality
    found = {verb: next((missing[one] for one in NEEDS.get(verb, ()) if one in missing), "") for verb in VERBS}
    why = "only a model with exact likelihoods of one categorical column, given other data, can classify"
    found["classify"] = "" if names else why
    why = "only a model that was trained on texts, given texts, can translate"
    found["translate"] = "" if texts and not names else why
    return found


def own_items(run: Run, split: str) -> Found:
    """A split of the data that a run was trained on, with what its items are given."""
    return brought(run, None, split)


TOLD_BY = {"draws": "complete", "beside": "reconstruct", "steps": "interpolate", "shape": "encode", "scored": "score"}
"""What a note of where items come from says of one verb alone."""


def asked_by(note: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """(the verb, the fields of its request) that made what has this note of where it comes from."""
    verb = next((verb for word, verb in TOLD_BY.items() if word in note), "sample")
    fields = VERBS[verb].request.model_fields
    return verb, {name: note[name] for name in fields if note.get(name) not in (None, [], {})}
