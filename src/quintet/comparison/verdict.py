"""Which model to keep, in plain words: computed from figures, with ties called ties.

A contender is every run with the same label (its seeds). Two contenders tie when the 95% interval of their difference
holds zero: the difference item by item where both were measured on the same items, else of two independent figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import t as student

Entry = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """Mean over the seeds, half the width of its 95% interval (0 if unknown), and the number of seeds."""

    mean: float
    half: float
    seeds: int

    @property
    def low(self) -> float:
        """The lower end."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """The upper end."""
        return self.mean + self.half


@dataclass(frozen=True)
class Contender:
    """All runs of one label; `done` are those that finished."""

    label: str
    family: str
    runs: tuple[Entry, ...]

    @property
    def done(self) -> list[Entry]:
        """The runs that finished."""
        return [run for run in self.runs if run.get("status", "ok") == "ok"]

    def metric(self, key: str) -> Figure | None:
        """A figure out of `metrics`, with its `_stderr`."""
        return self._figure(lambda run: run.get("metrics") or {}, key, f"{key}_stderr")

    def likelihood(self, key: str = "nats") -> Figure | None:
        """A figure out of `likelihood`; its standard error is scaled from nats."""
        found = self._figure(lambda run: run.get("likelihood") or {}, key, "stderr")
        nats = self._figure(lambda run: run.get("likelihood") or {}, "nats", "stderr")
        if found is None or nats is None or key == "nats":
            return found
        return Figure(found.mean, nats.half * abs(found.mean / nats.mean) if nats.mean else 0.0, found.seeds)

    def per_character(self) -> Figure | None:
        """Log-likelihood of a text in nats a character; its standard error is scaled from nats an item."""
        found, nats = self._figure(lambda run: run.get("language") or {}, "bits_per_character", ""), self.likelihood()
        if found is None or nats is None:
            return None
        mean = -found.mean * math.log(2)
        return Figure(mean, nats.half * abs(mean / nats.mean) if nats.mean else 0.0, found.seeds)

    def cost(self, key: str) -> Figure | None:
        """A number that stands in the entry itself, such as `ms_per_sample`."""
        return self._figure(lambda run: run, key, "")

    @property
    def likelihood_kind(self) -> str:
        """Either "exact", "bound", "estimate" or "none". The exact density of a dequantised item is a lower bound of
        the item's probability, and stands beside probabilities as that.
        """
        found = next((run["likelihood"] for run in self.done if run.get("likelihood")), {"kind": "none"})
        kind = str(found["kind"])
        return "bound" if kind == "exact" and found.get("space") == "dequantised" else kind

    @property
    def space(self) -> tuple[str, str] | None:
        """In which space the likelihood is: its measure and identity; None without a likelihood. Values of different
        spaces are not comparable.
        """
        return next((_space(run) for run in self.done if _space(run)), None)

    @property
    def measure(self) -> str:
        """The same in words: "mass" (and "dequantised", which is at most the mass in expectation), "density" or
        "encoded", with the space's identity, if it has one, and its dimensions.
        """
        if self.space is None:
            return ""
        measure, identity = self.space
        dims = next(run["likelihood"] for run in self.done if run.get("likelihood")).get("dims")
        return f"{measure} {identity}" + (f", {dims:,.6g} dimensions" if dims else "") if identity else measure

    @property
    def learnt_little(self) -> str | None:
        """Why none of its runs makes items like the data yet, or None."""
        reasons = [run.get("learnt_little") for run in self.done]
        return str(reasons[0]) if reasons and all(reasons) else None

    @property
    def memorises(self) -> bool:
        """Whether any seed was flagged for copying training items."""
        return any((run.get("metrics") or {}).get("memorised_flagged", False) for run in self.done)

    def _figure(self, part: Callable[[Entry], dict[str, Any]], key: str, error: str) -> Figure | None:
        parts = [part(run) for run in self.done]
        pairs = [(float(p[key]), float(p.get(error) or 0.0)) for p in parts if p.get(key) is not None]
        pairs = [pair for pair in pairs if math.isfinite(pair[0])]
        return interval([value for value, _ in pairs], [stderr for _, stderr in pairs]) if pairs else None


def interval(values: Sequence[float], stderrs: Sequence[float]) -> Figure:
    """Mean and 95% interval: Student's t over seeds, and two standard errors of the measurement, in quadrature.

    The seeds were measured on the same items, so that more seeds do not make the error of the items smaller.
    """
    n = len(values)
    half = 2 * math.sqrt(sum(s * s for s in stderrs) / n)
    if n > 1:
        half = math.hypot(half, float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n)))
    return Figure(float(np.mean(values)), half, n)


def _space(run: Entry) -> tuple[str, str] | None:
    """(measure, identity) of a run's likelihood. An encoded space without a name is that of its run alone."""
    found = run.get("likelihood")
    if not found:
        return None
    space, identity = str(found.get("space", "")), str(found.get("identity") or "")
    if space == "encoded" and not identity:
        identity = f"of {run['run']}"
    return "mass" if space == "dequantised" else space, identity


def measures(crowd: Sequence[Contender]) -> dict[str, str]:
    """What the likelihood of each contender is of, in a word, and of which space where these differ."""
    one = len({c.space for c in crowd if c.space}) < 2
    return {c.label: c.space[0] if one and c.space and c.space[0] != "encoded" else c.measure for c in crowd}


def difference(a: Contender, b: Contender, key: str, unpaired: tuple[Figure, Figure]) -> Figure:
    """a - b with its 95% interval.

    Where all runs of both were scored on the same items (`scored` of an entry: their places; `item_figures`), the
    differences of one item are averaged over the seeds; their spread over the items and that of the seeds' means are
    two sources of error, added in quadrature. Else the difference of two independent figures: of figures of samples
    against the same test items, as the AUC, that is more than the error of the difference, never less.
    """
    one, other = unpaired
    sides = item_by_item(a, b, key)
    if sides is None:
        return Figure(one.mean - other.mean, math.hypot(one.half, other.half), min(one.seeds, other.seeds))
    half = 2 * math.sqrt(items_variance(sides))
    left, right = sides[0]
    for side in (left, right):
        n = len(side)
        if n > 1:
            half = math.hypot(half, float(student.ppf(0.975, n - 1) * side.mean(1).std(ddof=1) / math.sqrt(n)))
    return Figure(float(left.mean() - right.mean()), half, min(len(left), len(right)))


Sides = list[tuple[np.ndarray, np.ndarray]]
"""(seeds, items) of two contenders, for each set of items that a figure is a mean over."""


def item_by_item(a: Contender, b: Contender, key: str) -> Sides | None:
    """Of both, where all their runs were scored on the same items; else None.

    `item_figures` of an entry hold a value for each item; of an area under a curve two lists, for the two sets of
    items that it orders (see `estimates.placements`): the mean of either is the area.
    """
    runs = (*a.done, *b.done)
    values = [(run.get("item_figures") or {}).get(key) or () for run in runs]
    parts = [value if value and isinstance(value[0], list) else [value] for value in values]
    sizes = {tuple(map(len, part)) for part in parts}
    if len(sizes) != 1 or min(next(iter(sizes))) < 2 or any(run.get("scored") != runs[0].get("scored") for run in runs):
        return None
    n = len(a.done)
    return [(np.array(part[:n], float), np.array(part[n:], float)) for part in zip(*parts, strict=True)]


def items_variance(sides: Sides) -> float:
    """Of the mean difference, as far as it comes from the choice of items: independent sets of items add up."""
    apart = [left.mean(0) - right.mean(0) for left, right in sides]
    return float(sum(each.var(ddof=1) / len(each) for each in apart))


def tie(a: tuple[Contender, Figure], b: tuple[Contender, Figure], key: str) -> bool:
    """Whether the 95% interval of the difference holds zero: neither is better, whichever way is better."""
    return not beats("high", a, b, key) and not beats("low", a, b, key)


def beats(better: str, a: tuple[Contender, Figure], b: tuple[Contender, Figure], key: str) -> bool:
    """Whether a is nearer to the best value than b by more than the error of the difference: the one test by which the
    verdict names winners and the report gives ranks.
    """
    gap = distance(better, b[1].mean) - distance(better, a[1].mean)
    return gap > difference(a[0], b[0], key, (a[1], b[1])).half


def distance(better: str, value: float) -> float:
    """From the best value there could be, as far as `better` says it: "low", "high" or "half" (nearest to 0.5)."""
    return {"low": value, "high": -value, "half": abs(value - 0.5)}[better]


def ranked(better: str, crowd: Sequence[Contender], figures: Sequence[Figure | None], key: str) -> list[int | None]:
    """Ranks with ties: 1 + the number of those that beat it, None where there is no figure. Whoever ties with the best
    is first as well. With `better` "" nobody is.
    """
    pairs = [(c, figure) for c, figure in zip(crowd, figures, strict=True) if figure is not None] if better else []
    ranks = {c.label: 1 + sum(beats(better, other, (c, figure), key) for other in pairs) for c, figure in pairs}
    return [ranks.get(c.label) for c in crowd]


def contenders(models: Sequence[Entry]) -> list[Contender]:
    """Group entries by label (default: the family), in order of appearance.

    Runs of one label whose likelihoods are of different spaces, as those on latents of different autoencoders, differ
    by more than their seed: they are contenders of their own, with the name of their first run added.
    """
    groups: dict[str, list[Entry]] = {}
    for model in models:
        groups.setdefault(str(model.get("label") or model["family"]), []).append(model)
    out = []
    for label, runs in groups.items():
        found = dict.fromkeys(filter(None, map(_space, runs)))
        spaces: list[tuple[str, str] | None] = [*found] or [None]
        for space in spaces:
            own = [run for run in runs if (_space(run) or spaces[0]) == space]
            name = label if len(spaces) == 1 else f"{label}, {own[0]['run']}"
            out.append(Contender(name, str(own[0]["family"]), tuple(own)))
    return out


def verdict(models: Sequence[Entry]) -> dict[str, Any]:
    """The answers to five questions, each {"label", "ties", "sentence", "figures"}; `label` None: nobody qualifies.

    `keeper`: of labels and texts that are right or wrong, who is right most often; else whose samples are hardest to
    tell from real data (AUC nearest to 0.5; a tie is broken by the first of `DECIDERS` that is clear, else either
    will do, and the one nearest to 0.5 is named; a contender flagged for copying training items is passed over if
    another is not, and so is one whose samples are not like the data yet). `scoring`: the highest log-likelihood, exact
    before bound before estimate, except that a lower bound above every exact value wins: the truth is higher still.
    `speed`: milliseconds per sample, within 10% a tie. `anomalies`: who most often finds a real item likelier than one
    of two halves that do not belong together. `memorisation`: the lowest share of copies. `caveats`: sentences that
    weaken the above.
    """
    everyone = contenders(models)
    alive = [c for c in everyone if c.done]
    keeper = _keeper(alive)
    return {
        "keeper": keeper,
        "scoring": _scoring(alive),
        "anomalies": _anomalies(alive),
        "speed": _speed(alive),
        "memorisation": _memorisation(alive),
        "caveats": _caveats(everyone, keeper),
    }


def _answer(label: str | None, sentence: str, ties: Sequence[str] = (), **figures: float) -> dict[str, Any]:
    return {"label": label, "ties": list(ties), "sentence": sentence, "figures": figures}


def _names(labels: Sequence[str]) -> str:
    return labels[0] if len(labels) == 1 else ", ".join(labels[:-1]) + " and " + labels[-1]


def _pm(figure: Figure, digits: int = 2) -> str:
    spread = f" ± {figure.half:.{digits}f}" if figure.half else ""
    return f"{figure.mean:.{digits}f}{spread}".replace("-", "−")


Measured = list[tuple[Contender, Figure]]


def _measured(pool: Sequence[Contender], figure: Callable[[Contender], Figure | None]) -> Measured:
    return [(c, found) for c in pool if (found := figure(c)) is not None]


RIGHT = {"accuracy": "It names the right label of {} of unseen items.", "exact_match": "{} of its texts have no error."}
"""Of models whose answers are right or wrong: the figure that decides, and how it is said."""


def _right(alive: Sequence[Contender]) -> dict[str, Any] | None:
    """The one that is right most often, where answers are right or wrong."""
    for key, words in RIGHT.items():
        scored = _measured(alive, lambda c, key=key: c.metric(key))  # type: ignore[misc]
        if scored:
            best, share = max(scored, key=lambda pair: pair[1].mean)
            ties = [c.label for c, f in scored if c is not best and tie((c, f), (best, share), key)]
            sentence = words.format(f"{share.mean:.1%} ± {share.half:.1%}")
            sentence += f" Tie with {_names(ties)}." if ties else ""
            sentence += seeds_told(scored, best, key)
            return _answer(best.label, sentence, ties, **{key: share.mean, f"{key}_half": share.half})
    return None


def _keeper(alive: Sequence[Contender]) -> dict[str, Any]:
    if (answered := _right(alive)) is not None:
        return answered
    scored = _measured(alive, lambda c: c.metric("auc"))
    if not scored:
        return _answer(None, "No model finished with samples that could be measured, so there is none to keep.")
    learnt = [pair for pair in scored if pair[0].learnt_little is None] or scored
    honest = [pair for pair in learnt if not pair[0].memorises]
    pool = honest or learnt
    nearest = min(pool, key=lambda pair: abs(pair[1].mean - 0.5))
    tied = [pair for pair in pool if pair is nearest or not beats("half", nearest, pair, "auc")]

    def coverage(contender: Contender) -> Figure:
        return contender.metric("coverage") or Figure(0.0, 0.0, 1)

    (best, auc), decider = _decided(tied, nearest)
    others = [c for c, _ in tied if c is not best]
    how = f"a classifier tells them apart with AUC {_pm(auc)}, where 0.50 is a coin toss and 1.00 is every time"
    if others:
        names = _names([c.label for c in others])
        first = "Its samples are among the hardest to tell from real data"
        if len(tied) == len(scored):
            first = "Its samples are not shown to be easier to tell from real data than those of any other"
        sentence = f"{first} ({how}). That is a tie with {names}: the differences are within their error. "
        part = ", ".join(f"{c.label} {_pm(coverage(c))}" for c in others)
        if decider is not None:
            mine, *rest = (c.metric(decider.key) for c in (best, *others))
            against = ", ".join(f"{c.label} {_pm(f)}" for c, f in zip(others, rest, strict=True) if f is not None)
            sentence += f"{best.label} comes first for {decider.words}, {_pm(mine or auc)} against {against}."
        else:
            aucs = ", ".join(f"{c.label} {_pm(f)}" for c, f in tied if c is not best)
            either = "either" if len(tied) == 2 else "any of them"
            sentence += (
                f"Coverage does not decide either ({_pm(coverage(best))} against {part}): {either} will do. "
                f"{best.label} is named for its AUC, the nearest to 0.50 ({_pm(auc)} against {aucs}); "
                "choose by speed or size."
            )
    elif len(pool) == 1:
        sentence = f"It is the only one that {'qualifies' if len(alive) > 1 else 'was measured'} ({how})."
    else:
        second = min((p for p in pool if p[0] is not best), key=lambda pair: abs(pair[1].mean - 0.5))
        sentence = (
            f"Its samples are the hardest to tell from real data: {how}. Next is {second[0].label}, {_pm(second[1])}."
        )
    sentence += seeds_told(pool, best, "auc")
    passed_over = [c.label for c, f in scored if c.memorises and honest and abs(f.mean - 0.5) < abs(auc.mean - 0.5)]
    if passed_over:
        sentence += f" {_names(passed_over)} would come before it, but was passed over for copying training items."
    return _answer(
        best.label, sentence, [c.label for c in others], auc=auc.mean, auc_half=auc.half, coverage=coverage(best).mean
    )


class Decider(NamedTuple):
    """A figure that decides between those whose samples a classifier tells from real data equally well."""

    key: str
    better: str
    words: str


DECIDERS = (
    Decider(
        "ngram_divergence", "low", "runs of letters that are more like those of real texts (divergence of n-grams)"
    ),
    Decider("coverage", "high", "covering more of the real data"),
    Decider("energy", "low", "a smaller energy distance to the real data"),
)


def _decided(tied: Measured, nearest: tuple[Contender, Figure]) -> tuple[tuple[Contender, Figure], Decider | None]:
    """Of those that tie by AUC the one that a further figure clearly puts before the nearest, and that figure; else
    the nearest, and None.
    """
    for decider in DECIDERS:
        found = _measured([c for c, _ in tied], lambda c, key=decider.key: c.metric(key))  # type: ignore[misc]
        if len(found) < len(tied):
            continue
        first = min(found, key=lambda pair: distance(decider.better, pair[1].mean))
        best = next(pair for pair in tied if pair[0] is first[0])
        rivals = [one for one in found if one is not first and (best is nearest or one[0] is nearest[0])]
        if rivals and all(beats(decider.better, first, rival, decider.key) for rival in rivals):
            return best, decider
    return nearest, None


def seeds_told(pool: Measured, best: Contender, key: str) -> str:
    """What the number of training runs lets one say about the first and the next, and how many would decide."""
    rivals = [pair for pair in pool if pair[0] is not best]
    if not rivals:
        return ""
    mine = next(pair for pair in pool if pair[0] is best)
    if min(figure.seeds for _, figure in pool) == 1:
        return " One training run each: this ranks these runs, not their kinds; --seeds 3 at least would decide that."
    far = abs(mine[1].mean - 0.5) if key == "auc" else mine[1].mean

    def gap(pair: tuple[Contender, Figure]) -> float:
        return abs((abs(pair[1].mean - 0.5) if key == "auc" else pair[1].mean) - far)

    rival = min(rivals, key=gap)
    seeds = min(mine[1].seeds, rival[1].seeds)
    if not tie(mine, rival, key) and gap(rival) > 0:
        return ""
    found = needed(mine[0], rival[0], key, gap(rival))
    if found is None:
        return f" More training runs would not decide between it and {rival[0].label}: more items would."
    return f" About {max(found, seeds + 1)} seeds each would decide between it and {rival[0].label} (--seeds)."


def needed(a: Contender, b: Contender, key: str, gap: float) -> int | None:
    """How many seeds each would show a difference of `gap`, if it is real: the smallest n whose Student's t times the
    spread of the runs, with the error of the measurement, is below it; None where the measurement alone is above it.
    """
    spreads, error = [], 0.0
    for contender in (a, b):
        parts = [run.get("likelihood" if key == "nats" else "metrics") or {} for run in contender.done]
        values = [float(part[key]) for part in parts if part.get(key) is not None]
        spreads.append(float(np.var(values, ddof=1)))
        errors = [float(part.get("stderr" if key == "nats" else f"{key}_stderr") or 0.0) for part in parts]
        error += float(np.mean(np.square(errors)))
    if (apart := item_by_item(a, b, key)) is not None:
        error = items_variance(apart)
    for n in (*range(2, 21), 30, 50, 100):
        if math.hypot(2 * math.sqrt(error), float(student.ppf(0.975, n - 1)) * math.sqrt(sum(spreads) / n)) < gap:
            return n
    return None


def by_character(pool: Sequence[Contender]) -> bool:
    """Whether their items are windows of one text that differ in length, so that nats an item cannot be compared."""
    counts = {run["likelihood"].get("items") for c in pool for run in c.done if run.get("likelihood")}
    return len(counts) > 1 and any(c.per_character() for c in pool)


def _scoring(alive: Sequence[Contender]) -> dict[str, Any]:
    letters = by_character(alive)
    per, digits, key = ("a character", 3, "nats a character") if letters else ("an item", 1, "nats")
    scored = _measured(alive, lambda c: c.per_character() if letters else c.likelihood())
    if not scored:
        return _answer(None, "None of these models can say how likely an item is.")
    spaces: dict[tuple[str, str] | None, Measured] = {}
    for pair in scored:
        spaces.setdefault(pair[0].space, []).append(pair)
    unlettered = [c.label for c in alive if letters and c.likelihood() and not c.per_character()]
    most = max(map(len, spaces.values()))
    largest = [group for group in spaces.values() if len(group) == most]
    apart = ""
    if len(spaces) > 1:  # probabilities, densities and values of different encoded spaces have no common scale
        parts = "; ".join(f"{_names([c.label for c, _ in group])}: {group[0][0].measure}" for group in spaces.values())
        apart = f" Likelihoods of different spaces cannot be compared ({parts})."
        if len(largest) > 1 or most == 1:
            return _answer(None, f"These likelihoods say nothing about who is better.{apart}")
        apart = f" Only {_names([c.label for c, _ in largest[0]])} were compared.{apart}"
    scored = largest[0]
    exact, bounds, estimates = tiers = [
        [pair for pair in scored if pair[0].likelihood_kind == kind] for kind in ("exact", "bound", "estimate")
    ]
    top = max(next(tier for tier in tiers if tier), key=lambda pair: pair[1].mean)
    above = [pair for pair in bounds if exact and pair[1].mean > top[1].mean and not tie(pair, top, key)]
    rival = max(above, key=lambda pair: pair[1].mean) if above else None
    best, nats = rival or top
    kind = best.likelihood_kind
    same = [
        c.label for c, f in scored if c is not best and c.likelihood_kind == kind and tie((c, f), (best, nats), key)
    ]
    words = {"exact": "exact", "bound": "a lower bound, the truth is at least that", "estimate": "an estimate"}
    sentence = f"It gives unseen items the highest log-likelihood: {_pm(nats, digits)} nats {per} ({words[kind]})."
    if rival:
        exactly = f"{top[0].label} {_pm(top[1], digits)}"
        sentence += f" That is above the best exact value, {exactly}; choose that one for exact scores."
    if same:
        sentence += f" Tie with {_names(same)}."
    near = [c.label for c, f in bounds if kind == "exact" and tie((c, f), (best, nats), key)]
    if near:
        sentence += f" {_names(near)} states only a bound, within the error of this: its true value may be higher."
    higher = [f"{c.label} ({_pm(f, digits)})" for c, f in estimates if kind != "estimate" and f.mean > nats.mean]
    if higher:
        sentence += f" Higher, but only an estimate, which may be too high: {_names(higher)}."
    if unlettered:
        sentence += f" {_names(unlettered)}: no likelihood of characters, and so not compared."
    sentence += apart + ("" if letters else seeds_told([p for p in scored if p[0].likelihood_kind == kind], best, key))
    unit = "nats_per_character" if letters else "nats"
    return _answer(best.label, sentence, same, **{unit: nats.mean, f"{unit}_half": nats.half})


def _anomalies(alive: Sequence[Contender]) -> dict[str, Any]:
    told = _measured(alive, lambda c: c.metric("anomaly"))
    if not told:
        return _answer(None, "None of these models was tried on planted anomalies.")
    best, part = max(told, key=lambda pair: pair[1].mean)
    ties = [c.label for c, f in told if c is not best and tie((c, f), (best, part), "anomaly")]
    sentence = (
        f"It finds a real item likelier than one whose halves do not belong together {part.mean:.0%} ± {part.half:.0%} "
        "of the time, where 50% is chance."
    )
    if part.low <= 0.5:
        return _answer(
            None, f"No model finds planted anomalies better than chance: {_names([c.label for c, _ in told])}."
        )
    if ties:
        sentence += f" Tie with {_names(ties)}."
    return _answer(best.label, sentence, ties, anomaly=part.mean, anomaly_half=part.half)


def _speed(alive: Sequence[Contender]) -> dict[str, Any]:
    timed = _measured(alive, lambda c: c.cost("ms_per_sample"))
    if not timed:
        return _answer(None, "Sampling was not timed.")
    best, ms = min(timed, key=lambda pair: pair[1].mean)
    ties = [c.label for c, f in timed if c is not best and f.mean <= 1.1 * ms.mean]
    slowest, slow = max(timed, key=lambda pair: pair[1].mean)
    sentence = f"{ms.mean:.3g} ms a sample."
    if slow.mean > 1.5 * ms.mean:
        times = slow.mean / ms.mean
        ratio = f"{times:,.0f}" if times >= 10 else f"{times:.1f}"
        sentence = f"{ms.mean:.3g} ms a sample, {ratio} times as fast as {slowest.label} ({slow.mean:.3g} ms)."
    if ties:
        sentence += f" Tie with {_names(ties)}, within 10%."
    return _answer(best.label, sentence, ties, ms_per_sample=ms.mean)


def _memorisation(alive: Sequence[Contender]) -> dict[str, Any]:
    shares = _measured(alive, lambda c: c.metric("memorised"))
    if not shares:
        return _answer(None, "Copying of training items was not measured.")
    flagged = [f"{c.label} ({f.mean:.1%})" for c, f in shares if c.memorises]
    expected = next((c.metric("memorised_expected") for c, _ in shares if c.metric("memorised_expected")), None)
    normal = f" (about {expected.mean:.1%} is normal)" if expected else ""
    if len(flagged) == len(shares):
        return _answer(None, f"Every model copies training items: {_names(flagged)}{normal}.")
    clean = [pair for pair in shares if not pair[0].memorises]
    best, share = min(clean, key=lambda pair: pair[1].mean)
    ties = [c.label for c, f in clean if c is not best and tie((c, f), (best, share), "memorised")]
    sentence = f"{share.mean:.1%} of its samples lie unusually close to one training item{normal}."
    if ties:
        sentence += f" Tie with {_names(ties)}."
    sentence += f" Copies training items: {_names(flagged)}." if flagged else " No model copies more than chance would."
    return _answer(best.label, sentence, ties, memorised=share.mean, memorised_half=share.half)


def _caveats(everyone: Sequence[Contender], keeper: dict[str, Any]) -> list[str]:
    notes = []
    auc = keeper["figures"].get("auc")
    if auc is not None and auc >= 0.95:
        notes.append(
            "Even the best samples are recognised nearly every time: train longer before relying on any of them."
        )
    if auc is not None and auc + keeper["figures"]["auc_half"] < 0.5:
        notes.append("An AUC clearly below 0.5 means that samples repeat the test items themselves: check for a leak.")
    kept = next((c for c in everyone if c.label == keeper["label"]), None)
    if kept is not None and kept.memorises:
        notes.append("The model named first copies training items; so does every other that was measured.")
    for contender in everyone:
        if contender.learnt_little is not None:
            notes.append(f"{contender.label} has learnt too little to be kept: {contender.learnt_little}.")
        failed = len(contender.runs) - len(contender.done)
        if failed:
            of = f" in {failed} of {len(contender.runs)} runs" if len(contender.runs) > 1 else ""
            errors = [str(run.get("error") or "") for run in contender.runs if run.get("status", "ok") != "ok"]
            why = f": {errors[0]}" if contender.done and errors[0] else "."
            notes.append(f"{contender.label} failed{of}{why}")
    most = max((len(c.done) for c in everyone), default=0)
    if most == 1:
        notes.append("One seed each: the intervals hold the error of measurement, not the luck of training.")
    elif most == 2:
        notes.append("Two seeds each: the intervals are wide because two runs say little about the luck of training.")
    return notes
