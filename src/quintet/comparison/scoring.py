"""Who gives unseen items the highest log-likelihood, among those whose likelihoods can be compared at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from quintet.comparison.contenders import Contender, answer, names, plus_minus
from quintet.comparison.differences import beats, difference, foremost, having, seeds_told, tie, ties
from quintet.metrics.measures import NATS, PER_CHARACTER, Measure


class Unit(NamedTuple):
    """In what log-likelihoods are compared, and how it is written."""

    measure: Measure
    words: str
    digits: int


ITEM = Unit(NATS, "{} nats an item", 1)
CHARACTER = Unit(PER_CHARACTER, "{} nats a character", 3)
"""Of windows of one text that differ in length from model to model."""


class Tier(NamedTuple):
    """Likelihoods of one kind are compared with each other; what the other kinds are to them stands here.

    `called` is what the value is in a sentence. `near` is said of those of this kind that tie with a best of a better
    kind, `above` of those that are higher than it.
    """

    kind: str
    called: str
    near: str = ""
    above: str = ""


TIERS = (
    Tier("exact", "exact"),
    Tier(
        "bound",
        "a lower bound, the truth is at least that",
        near=" {} states only a bound, within the error of this: its true value may be higher.",
    ),
    Tier("estimate", "an estimate", above=" Higher, but only an estimate, which may be too high: {}."),
)
"""The better kind first. Only a bound can win against a better kind: what is clearly above an exact value is higher."""


def by_character(pool: Sequence[Contender]) -> bool:
    """Whether their items are windows of one text that differ in length, so that nats an item cannot be compared."""
    counts = {run["likelihood"].get("items") for c in pool for run in c.done if run.get("likelihood")}
    return len(counts) > 1 and bool(having(PER_CHARACTER, pool))


def unit_of(pool: Sequence[Contender]) -> Unit:
    """In what the likelihoods of these contenders are compared."""
    return CHARACTER if by_character(pool) else ITEM


def best_scoring(alive: Sequence[Contender]) -> dict[str, Any]:
    """Exact before bound before estimate, except that a lower bound above every exact value wins: the truth is higher
    still. Only likelihoods of one measure (of one encoded space) are compared.
    """
    unit = unit_of(alive)
    scored = having(unit.measure, alive)
    if not scored:
        return answer(None, "None of these models can say how likely an item is.")
    pool, apart = one_space(scored)
    if not pool:
        return answer(None, f"These likelihoods say nothing about who is better.{apart}")
    tiers = {tier.kind: [c for c in pool if c.likelihood_kind == tier.kind] for tier in TIERS}
    top = foremost(unit.measure, next(tier for tier in tiers.values() if tier))
    above = [c for c in tiers["bound"] if top in tiers["exact"] and beats(unit.measure, c, top)]
    best = foremost(unit.measure, above) if above else top
    peers = tiers[best.likelihood_kind]
    same = [c.label for c in ties(unit.measure, best, peers)]
    sentence = _headline(unit, best, alone=len(scored) == 1)
    if above:
        exactly = f"{top.label} {_value(unit, top)}"
        sentence += f" That is above the best exact value, {exactly}; choose that one for exact scores."
    if same:
        sentence += f" Tie with {names(same)}."
    sentence += _other_kinds(unit, best, tiers)
    unlettered = [c.label for c in having(NATS, alive) if c not in scored]
    if unlettered:
        sentence += f" {names(unlettered)}: no likelihood of characters, and so not compared."
    sentence += apart + _fewer_items(unit, best, pool)
    sentence += seeds_told(unit.measure, peers, best)
    figure = best.figure(unit.measure)
    key = unit.measure.key
    return answer(best.label, sentence, same, **({key: figure.mean, f"{key}_half": figure.half} if figure else {}))


def one_space(scored: Sequence[Contender]) -> tuple[list[Contender], str]:
    """Those whose likelihoods are of one space, the most that there are, and what is said of the others.

    Probabilities, densities and values of different encoded spaces have no common scale. Nobody, if no space has more
    contenders than the others.
    """
    spaces: dict[tuple[str, str] | None, list[Contender]] = {}
    for contender in scored:
        spaces.setdefault(contender.space, []).append(contender)
    if len(spaces) == 1:
        return list(scored), ""
    parts = "; ".join(f"{names([c.label for c in group])}: {group[0].measure}" for group in spaces.values())
    told = f" Likelihoods of different spaces cannot be compared ({parts})."
    first, second = sorted(spaces.values(), key=len, reverse=True)[:2]
    if len(first) == len(second):
        return [], told
    return first, f" Only {names([c.label for c in first])} were compared.{told}"


def _value(unit: Unit, contender: Contender) -> str:
    figure = contender.figure(unit.measure)
    return plus_minus(figure, unit.digits) if figure else "unknown"


def _headline(unit: Unit, best: Contender, *, alone: bool) -> str:
    called = next(tier.called for tier in TIERS if tier.kind == best.likelihood_kind)
    value = unit.words.format(_value(unit, best))
    if alone:
        return f"It is the only one with a log-likelihood of unseen items: {value} ({called})."
    return f"It gives unseen items the highest log-likelihood: {value} ({called})."


def _other_kinds(unit: Unit, best: Contender, tiers: dict[str, list[Contender]]) -> str:
    """What the likelihoods of lesser kinds say beside the best."""
    told, kinds = "", list(tiers)
    for tier in TIERS[kinds.index(best.likelihood_kind) + 1 :]:
        near = [c.label for c in tiers[tier.kind] if tie(unit.measure, c, best)]
        above = [c for c in tiers[tier.kind] if difference(unit.measure, c, best).gap > 0]
        if near and tier.near:
            told += tier.near.format(names(near))
        if above and tier.above:
            told += tier.above.format(names([f"{c.label} ({_value(unit, c)})" for c in above]))
    return told


def _fewer_items(unit: Unit, best: Contender, pool: Sequence[Contender]) -> str:
    """On how many items those were compared that were not measured on all of the same."""
    told = ""
    for contender in pool:
        counts = {len((run.get("item_figures") or {}).get("nats") or ()) for c in (best, contender) for run in c.done}
        shared = difference(unit.measure, best, contender).items if contender is not best else None
        if shared and counts != {shared}:
            told += f" {best.label} and {contender.label} were compared on the {shared} items that both were scored on."
    return told
