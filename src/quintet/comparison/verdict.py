"""Which model to keep, in plain words: computed from figures, with ties called ties.

A contender is every run with the same label (its seeds). Two contenders tie when the 95% interval of their difference
holds zero; see `differences` for how that is found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from quintet.comparison.contenders import (
    Contender,
    Entry,
    Figure,
    answer,
    contenders,
    names,
    plus_minus,
    value_and_error,
)
from quintet.comparison.differences import beats, distance, foremost, from_fewer, having, seeds_told, ties
from quintet.comparison.scoring import best_scoring
from quintet.metrics.measures import ANOMALY, AUC, COVERAGE, ENERGY, MEMORISED, NATS, SPEED, Measure
from quintet.registry import QUALITY, SPECIAL

DECIDERS = (*(measure for measure in SPECIAL if measure.decides), COVERAGE, ENERGY)
"""Figures that decide between those whose samples a classifier tells from real data equally well."""


def verdict(models: Sequence[Entry], real: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The answers to six questions, each {"label", "ties", "sentence", "figures"}; `label` None: nobody qualifies.
    `real`: the figures of unseen real items in the place of samples.

    `keeper`: of labels and texts that are right or wrong, who is right most often; else whose samples are hardest to
    tell from real data (AUC nearest to 0.5; a tie is broken by the first of `DECIDERS` that is clear, else either
    will do, and the one nearest to 0.5 is named; a contender flagged for copying training items is passed over if
    another is not, and so is one whose samples are not like the data yet). `scoring`: see `scoring.best_scoring`.
    `speed`: milliseconds per sample, within 10% a tie. `anomalies`: who most often finds a real item likelier than one
    of two halves that do not belong together. `completion`: who completes best what is known in part, by the first
    figure that is measured of completions. `memorisation`: the lowest share of copies, of those whose samples are
    like the data. `caveats`: sentences that weaken the above.
    """
    everyone = contenders(models)
    alive = [c for c in everyone if c.done]
    keeper = _right(alive) or _keeper(alive)
    return {
        "keeper": keeper,
        "scoring": best_scoring(alive),
        "anomalies": _anomalies(alive),
        "completion": _completion(alive),
        "speed": _speed(alive),
        "memorisation": _memorisation(alive),
        "caveats": _caveats(everyone, keeper, real or {}),
    }


COMPLETES = tuple(measure for measure in SPECIAL if measure.completes)
"""Figures of completions of real items that are known in part."""
RIGHT = tuple(measure for measure in QUALITY if measure.right)
"""Figures of answers that are right or wrong; the next one decides where the one before is a tie."""
JUDGED = (AUC, *DECIDERS, *COMPLETES, *RIGHT, ANOMALY, MEMORISED)
"""Figures of quality by which a question is answered; all others are told beside them."""


def _figure(measure: Measure, contender: Contender) -> Figure:
    found = contender.figure(measure)
    assert found is not None
    return found


def _value(measure: Measure, contender: Contender) -> str:
    found = contender.figure(measure)
    return "unknown" if found is None else plus_minus(found)


def _right(alive: Sequence[Contender]) -> dict[str, Any] | None:
    """The one that is right most often, where answers are right or wrong."""
    known = [measure for measure in RIGHT if having(measure, alive)]
    if not known:
        return None

    def clear(measure: Measure) -> bool:
        pool = having(measure, alive)
        return not ties(measure, foremost(measure, pool), pool)

    measure = next((measure for measure in known if clear(measure)), known[0])
    pool = having(measure, alive)
    best = foremost(measure, pool)
    found, tied = _figure(measure, best), [c.label for c in ties(measure, best, pool)]
    value = f"{found.mean:.1%} ± {found.half:.1%}" if measure.percent else plus_minus(found)
    sentence = measure.right.format(value)
    if measure is not known[0]:
        sentence += f" By {known[0].name.lower()} that is a tie."
    if tied:
        either = "either" if len(tied) == 1 else "any of them"
        sentence += f" Tie with {names(tied)}: {either} will do; choose by speed or size."
    sentence += seeds_told(measure, pool, best)
    return answer(best.label, sentence, tied, **{measure.key: found.mean, f"{measure.key}_half": found.half})


def _keeper(alive: Sequence[Contender]) -> dict[str, Any]:
    """Whose samples are the hardest to tell from real data."""
    scored = having(AUC, alive)
    if not scored:
        return answer(None, "No model finished with samples that could be measured, so there is none to keep.")
    learnt = [c for c in scored if c.learnt_little is None] or scored
    pool = [c for c in learnt if not c.memorises] or learnt
    nearest = foremost(AUC, pool)
    best, decider = _decided([nearest, *ties(AUC, nearest, pool)], nearest)
    others = [c for c in (nearest, *ties(AUC, nearest, pool)) if c is not best]
    how = (
        f"a classifier tells them apart with AUC {_value(AUC, best)}, where 0.50 is a coin toss and 1.00 is every time"
    )
    if others:
        sentence = _tied(best, others, decider, how, everyone=len(others) + 1 == len(scored))
    elif len(pool) == 1:
        sentence = f"It is the only one that {'qualifies' if len(alive) > 1 else 'was measured'} ({how})."
    else:
        second = foremost(AUC, [c for c in pool if c is not best])
        sentence = f"Its samples are the hardest to tell from real data: {how}. "
        sentence += f"Next is {second.label}, {_value(AUC, second)}."
    if best.learnt_little is not None:
        sentence += " But no samples are like the data yet: train longer before you keep any."
    sentence += _from_fewer(best, others) + seeds_told(AUC, pool, best) + _passed_over(scored, pool, best)
    auc, coverage = _figure(AUC, best), best.figure(COVERAGE)
    tied = [c.label for c in others]
    return answer(
        best.label, sentence, tied, auc=auc.mean, auc_half=auc.half, coverage=coverage.mean if coverage else 0.0
    )


def _tied(best: Contender, others: Sequence[Contender], decider: Measure | None, how: str, *, everyone: bool) -> str:
    """That it is a tie, and what decides it, or that nothing does and why one might choose all the same."""
    first = "Its samples are among the hardest to tell from real data"
    if everyone:
        first = "Its samples are not shown to be easier to tell from real data than those of any other"
    rivals = names([c.label for c in others])
    tie = f"{first} ({how}). That is a tie with {rivals}: the differences are within their error. "

    def against(measure: Measure) -> str:
        theirs = ", ".join(f"{c.label} {_value(measure, c)}" for c in others)
        return f"{_value(measure, best)} against {theirs}"

    if decider is not None:
        return f"{tie}{best.label} comes first for {decider.decides}, {against(decider)}."
    either = "either" if len(others) == 1 else "any of them"
    covered = "Nothing else decides either"
    if all(c.figure(COVERAGE) for c in (best, *others)):
        covered = f"Coverage does not decide either ({against(COVERAGE)})"
    return (
        f"{tie}{covered}: {either} will do. {best.label} is named for its AUC, the nearest to 0.50 "
        f"({against(AUC)}); choose by speed or size."
    )


def _from_fewer(best: Contender, others: Sequence[Contender]) -> str:
    """Of those whose AUC comes from so few items that it cannot be better than the best's."""
    few = [c for c in others if from_fewer(AUC, c, best)]
    return "".join(
        f" {c.label} was measured on {c.items:,} samples, {best.label} on {best.items:,}: from fewer a classifier "
        f"learns less, so that the AUC of {c.label} is nearer to 0.50 than it should be, and no reason to prefer it."
        for c in few
    )


def _passed_over(scored: Sequence[Contender], pool: Sequence[Contender], best: Contender) -> str:
    """Who would come before the best, but copies training items or makes none like the data."""
    nearer = distance("half", _figure(AUC, best).mean)
    before = [c for c in scored if c not in pool and distance("half", _figure(AUC, c).mean) < nearer]
    told = ""
    for group, why in (
        ([c.label for c in before if c.memorises], "for copying training items"),
        ([c.label for c in before if not c.memorises], "because its samples are not like the data yet"),
    ):
        if group:
            was = "was" if len(group) == 1 else "were"
            told += f" {names(group)} would come before it, but {was} passed over {why}."
    return told


def _decided(tied: Sequence[Contender], nearest: Contender) -> tuple[Contender, Measure | None]:
    """Of those that tie by AUC the one that a further figure clearly puts before the nearest, and that figure; else
    the nearest, and None.
    """
    for decider in DECIDERS:
        if len(having(decider, tied)) < len(tied) or len(tied) < 2:
            continue
        first = foremost(decider, tied)
        rivals = [c for c in tied if c is not first and nearest in (first, c)]
        if all(beats(decider, first, rival) for rival in rivals):
            return first, decider
    return nearest, None


def _anomalies(alive: Sequence[Contender]) -> dict[str, Any]:
    told = having(ANOMALY, alive)
    if not told:
        return answer(None, "None of these models was tried on planted anomalies.")
    best = foremost(ANOMALY, told)
    part = _figure(ANOMALY, best)
    if part.low <= 0.5:
        return answer(None, f"No model finds planted anomalies better than chance: {names([c.label for c in told])}.")
    tied = [c.label for c in ties(ANOMALY, best, told)]
    sentence = (
        f"It finds a real item likelier than one whose halves do not belong together {part.mean:.0%} ± {part.half:.0%} "
        "of the time, where 50% is chance."
    )
    sentence += f" Tie with {names(tied)}." if tied else ""
    sentence += seeds_told(ANOMALY, told, best)
    return answer(best.label, sentence, tied, anomaly=part.mean, anomaly_half=part.half)


def _completion(alive: Sequence[Contender]) -> dict[str, Any]:
    measure = next((measure for measure in COMPLETES if having(measure, alive)), None)
    if measure is None:
        return answer(None, "Completions were not measured.")
    told = having(measure, alive)
    best = foremost(measure, told)
    found, tied = _figure(measure, best), [c.label for c in ties(measure, best, told)]
    sentence = measure.completes.format(plus_minus(found, 3)) + _beside_naive(measure, best)
    sentence += f" Tie with {names(tied)}." if tied else _next(measure, best, told)
    sentence += seeds_told(measure, told, best)
    return answer(best.label, sentence, tied, **{measure.key: found.mean, f"{measure.key}_half": found.half})


def _next(measure: Measure, best: Contender, told: Sequence[Contender]) -> str:
    rivals = [c for c in told if c is not best]
    if not rivals:
        return ""
    second = foremost(measure, rivals)
    return f" Next is {second.label}, {plus_minus(_figure(measure, second), 3)}."


def _beside_naive(measure: Measure, best: Contender) -> str:
    """Whether the best is better than a rule that learns nothing."""
    if measure.naive is None:
        return ""
    key, rule = measure.naive
    less = best.figure(Measure(key, "", "", ""))
    if less is None:
        return ""
    if less.high < 0:
        return f" That is {-less.mean:.3f} ± {less.half:.3f} less than {rule}."
    return f" But it is not clearly better than {rule}: the difference is {plus_minus(less, 3)}."


def _speed(alive: Sequence[Contender]) -> dict[str, Any]:
    timed = having(SPEED, alive)
    if not timed:
        return answer(None, "Sampling was not timed.")
    best, slowest = foremost(SPEED, timed), max(timed, key=lambda c: _figure(SPEED, c).mean)
    ms, slow = _figure(SPEED, best).mean, _figure(SPEED, slowest).mean
    tied = [c.label for c in ties(SPEED, best, timed)]
    sentence = f"{ms:.3g} ms a sample."
    if slow > 1.5 * ms:
        ratio = f"{slow / ms:,.0f}" if slow / ms >= 10 else f"{slow / ms:.1f}"
        sentence = f"{ms:.3g} ms a sample, {ratio} times as fast as {slowest.label} ({slow:.3g} ms)."
    sentence += f" Tie with {names(tied)}, within 10% or the spread of the runs." if tied else ""
    if best.learnt_little is not None:
        sentence += f" But the samples of {best.label} are not like the data yet."
    return answer(best.label, sentence, tied, ms_per_sample=ms)


def _memorisation(alive: Sequence[Contender]) -> dict[str, Any]:
    """Copies are shares of samples that are like the data: noise copies nothing, and is passed over."""
    shares = having(MEMORISED, alive)
    if not shares:
        return answer(None, "Copying of training items was not measured.")
    flagged = [f"{c.label} ({_figure(MEMORISED, c).mean:.1%})" for c in shares if c.memorises]
    expected = next((f for c in shares if (f := c.figure(EXPECTED))), None)
    normal = f" (about {expected.mean:.1%} is normal)" if expected else ""
    if len(flagged) == len(shares):
        return answer(None, f"Every model copies training items: {names(flagged)}{normal}.")
    clean = [c for c in shares if not c.memorises]
    clean = [c for c in clean if c.learnt_little is None] or clean
    best = min(clean, key=lambda c: _figure(MEMORISED, c).mean)
    share = _figure(MEMORISED, best)
    tied = [c.label for c in ties(MEMORISED._replace(better="low"), best, clean)]
    sentence = f"{share.mean:.1%} of its samples lie unusually close to one training item{normal}."
    sentence += f" Tie with {names(tied)}." if tied else ""
    if best.learnt_little is not None:
        sentence += " But no samples are like the data yet, and what is unlike the data copies nothing."
    sentence += f" Copies training items: {names(flagged)}." if flagged else " No model copies more than chance would."
    return answer(best.label, sentence, tied, memorised=share.mean, memorised_half=share.half)


ROUGH = 0.15
"""Half of an interval of an AUC above which nearly everybody ties: of fewer than about 60 unseen items."""
EXPECTED = Measure("memorised_expected", "Expected copies", "", "")


def _caveats(everyone: Sequence[Contender], keeper: dict[str, Any], real: Mapping[str, Any]) -> list[str]:
    notes = []
    auc = keeper["figures"].get("auc")
    if auc is not None and (real.get("auc") or 0.0) >= 0.9:
        notes.append(
            f"Other real items are told from the test split too (AUC {real['auc']:.2f}): it is unlike the rest, as "
            "what comes later in time often is. So AUC and distances decide little here: mind the other figures."
        )
    elif auc is not None and auc >= 0.95:
        notes.append(
            "Even the best samples are recognised nearly every time: train longer before relying on any of them."
        )
    if auc is not None and keeper["figures"]["auc_half"] > ROUGH:
        notes.append(
            f"The unseen items are few: the AUC is known to ± {keeper['figures']['auc_half']:.2f} only, and smaller "
            "differences between models cannot be seen. More items would show them."
        )
    if auc is not None and auc + keeper["figures"]["auc_half"] < 0.5:
        notes.append("An AUC clearly below 0.5 means that samples repeat the test items themselves: check for a leak.")
    kept = next((c for c in everyone if c.label == keeper["label"]), None)
    if kept is not None and kept.memorises:
        notes.append("The model named first copies training items; so does every other that was measured.")
    for contender in everyone:
        notes += _troubles(contender)
    return notes + _of_seeds([c for c in everyone if c.done])


def _troubles(contender: Contender) -> list[str]:
    """Why a contender's figures say little, or are missing."""
    notes = []
    if contender.learnt_little is not None:
        notes.append(f"{contender.label} has learnt too little to be kept: {contender.learnt_little}.")
    failed = len(contender.runs) - len(contender.done)
    if failed:
        of = f" in {failed} of {len(contender.runs)} runs" if len(contender.runs) > 1 else ""
        errors = [str(run.get("error") or "") for run in contender.runs if run.get("status", "ok") != "ok"]
        if contender.end == "left out":
            notes.append(f"{contender.label} was left out{of}.")
        else:
            said = contender.done and errors[0]
            notes.append(f"{contender.label} failed{of}: {said}" if said else f"{contender.label} failed{of}.")
    for measure in (NATS, *QUALITY):
        broken = [
            run for run in contender.done if (found := value_and_error(run, measure)) and not math.isfinite(found[0])
        ]
        if broken:
            of = f" in {len(broken)} of {len(contender.done)} runs" if len(contender.done) > 1 else ""
            notes.append(f"{contender.label} has no finite figure{of} for {measure.name!r}, and is not ranked by it.")
    return notes


def _of_seeds(alive: Sequence[Contender]) -> list[str]:
    """What the numbers of training runs allow to say."""
    counts = {c.label: len(c.done) for c in alive}
    if set(counts.values()) == {1}:
        return ["One seed each: the intervals hold the error of measurement, not the luck of training."]
    if set(counts.values()) == {2}:
        return ["Two seeds each: the intervals are wide because two runs say little about the luck of training."]
    few = [(label, count) for label, count in counts.items() if count < 3]
    return [f"{names([f'{label} ({count})' for label, count in few])}: the number of seeds is below 3, and says little "
            "about the luck of training."] if few else []  # fmt: skip
