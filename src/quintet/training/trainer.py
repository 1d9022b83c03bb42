"""One loop for every family: it knows objectives and nothing else about what it trains."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

from quintet.core.errors import ConfigError, Diverged, out_of_memory, warn
from quintet.core.family import Batch, Family, Objective
from quintet.core.random import seed_of
from quintet.training import saving
from quintet.training.engine import Engine, autocast, resolve_precision
from quintet.training.guard import MOST_BACK, Guard, LookLeft, weights_gone
from quintet.training.muon import hidden_matrices
from quintet.training.optim import EMA, Flat, learning_rate
from quintet.training.plan import INTERVALS, LEAST_STEPS, LOOKING, QUICK, SHARE, Leg, due, further, leg_at, position
from quintet.training.settings import TrainingSettings

INITIAL = 1024
"""Training items from which constants are computed before the first step (scales, ActNorm)."""
MOST_NUMBERS = 2**20
"""These items hold at most this many numbers together: of large items, fewer are taken."""
CHECKED = 0.04
"""The plan of a budget is checked whenever another such share of the budget has been spent."""
PLAN_SLACK = 0.03
"""The plan is not changed as long as its expected end is this close to that of the budget, as a share of it."""
FASTER = 0.9
"""The number of threads is changed only if a step then takes less than this share of its time before."""
CHANGED = 1.5
"""If steps become slower or faster by this factor, the load of the machine has changed: threads are measured again."""
HALVINGS = 4
"""How often a run may halve its micro-batch when memory runs out."""


class Stream(Protocol):
    """The part of a data loader that the trainer uses."""

    def batch(self, cursor: int, start: int, count: int, total: int, *, stream: str = "") -> Batch: ...


class Trainer:
    """Every step: for each objective, in order, one update of its module on the step's global batch.

    All randomness is a function of (seed, step), so a checkpoint needs no random state and a resumed run is the
    uninterrupted one, bit for bit.
    """

    def __init__(
        self,
        family: Family,
        loader: Stream,
        settings: TrainingSettings,
        *,
        seed: int,
        steps: int,
        engine: Engine,
        plan: Sequence[Sequence[int]] = (),
        budget: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`plan`: the legs that a budget became, which end at `steps`. With `budget`, the seconds of this run, the plan
        is corrected while it runs, and its legs are what was done; without one it is followed as it stands. Without
        either, looks that turn out to be slow become rarer.
        """
        self.family, self.loader, self.settings = family, loader, settings
        self.seed, self.steps, self.engine = seed, steps, engine
        every = settings.sample_every or max(1, -(-steps // INTERVALS))
        self.legs = [Leg(*leg) for leg in plan] or [Leg(0, steps, every)]
        self.budget, self.clock = budget, clock
        self.looked, self.look_seconds = 0.0, 0.0  # seconds of all looks, and of the last one
        self.looks = 0
        self.loose = budget is None and not plan and settings.sample_every is None  # whether looks may become rarer
        self.recent: list[float] = []  # seconds of the steps since the plan was checked, or of the last ones
        self.usual: float | None = None  # seconds of a step when threads were last chosen
        self.tried: tuple[int, float] | None = None  # threads before those that are being tried, and a step's seconds
        self.step, self.seconds = 0, 0.0
        self.guard, self.owed = Guard(), False  # whether a look is owed, which was left before its end
        self.halved = 0
        self.stop: str | None = None  # set from outside (a signal): finish the step, then return
        self.precision = resolve_precision(settings.precision, family, engine.device)
        self.objectives = family.objectives()
        names = {p: name for name, p in family.named_parameters()}
        matrices = hidden_matrices(family) if settings.optimiser == "muon" else {}
        if settings.optimiser == "muon" and not matrices:
            raise ConfigError(
                "the optimiser muon cannot be used for this net", where="training.optimiser",
                why="muon updates only hidden matrices, and this net declares none",
                fix="--training.optimiser adamw",
            )  # fmt: skip
        self.flats = {
            name: Flat({names[p]: p for p in o.module.parameters()}, settings, matrices)
            for name, o in self.objectives.items()
        }
        rows = max(8, min(max(settings.batch_size, INITIAL), MOST_NUMBERS // family.space.dims))
        family.initialise(loader.batch(0, 0, rows, rows))
        engine.broadcast(tensor.detach() for tensor in family.state_dict().values())
        self.ema = EMA([flat.value for flat in self.flats.values()], settings.ema)

    # -- one step ------------------------------------------------------------------------------------------------

    def update(self) -> dict[str, float]:
        """One step. Returns the losses and their parts; a non-finite one leaves the weights as they were, on all ranks,
        and after many in a row it is the step of the last checkpoint.
        """
        lr = learning_rate(self.settings, *position(self.legs, self.step))
        record: dict[str, float] = {}
        bad = False
        for name, objective in self.objectives.items():
            flat = self.flats[name]
            with self.only(name):
                record |= self.backward(name, objective)
            norm = flat.norm()
            finite = math.isfinite(norm) and math.isfinite(record[name])
            if self.engine.any(not finite):
                bad = True
                continue
            limit = self.settings.clip
            flat.step(lr, limit / norm if limit is not None and norm > limit else 1.0)
        self.step += 1
        if (error := self.guard.count(bad, self.step, record)) is not None:
            self.go_back(error)
        elif not bad:
            self.ema.update(self.step)
        return record

    def poisoned(self, losses: dict[str, float]) -> bool:
        """Whether something that a checkpoint would hold is NaN or Inf: looked for before it is written, since the loss
        shows it a step later only. Training then went back.
        """
        bad = saving.not_finite(self.tensors())
        if found := self.engine.any(bool(bad)):
            self.go_back(weights_gone(bad, self.step, losses))
        return found

    def go_back(self, error: Diverged) -> None:
        """Go on from the last good checkpoint, with other items than those behind it, which led here (as Chowdhery et
        al. 2022, section 5.1, arXiv:2204.02311). Raises the error where there is none, or where that did not help.
        """
        guard, reached, seconds = replace(self.guard, skipped=0, back=self.guard.back + 1), self.step, self.seconds
        found = self.guard.last_good(self.engine, error)
        if found is not None:
            self.restore(*found)
        self.engine.broadcast(tensor.detach() for group in self.tensors().values() for tensor in group.values())
        self.step = int(self.engine.agree(self.step))
        self.guard, self.seconds, self.owed = replace(guard, passed=guard.passed + reached - self.step), seconds, False
        told = f"training goes on from the checkpoint of step {self.step}, with other items"
        if self.engine.first:
            warn(f"{error.what} at step {reached}: {told} ({self.guard.back} of {MOST_BACK} times)")

    @contextmanager
    def only(self, name: str) -> Iterator[None]:
        """Within this context, gradients are computed for the parameters of this objective only."""
        others = [p for other, flat in self.flats.items() if other != name for p in flat.params]
        for p in others:
            p.requires_grad_(False)
        try:
            yield
        finally:
            for p in others:
                p.requires_grad_(True)

    def backward(self, name: str, objective: Objective) -> dict[str, float]:
        """Fill this objective's gradient, over micro-batches and ranks; returns the loss and its parts.

        Where memory does not suffice, micro-batches are halved from here on; the batch stays what it is.
        """
        total = self.settings.batch_size
        while True:
            try:
                sums = self.accumulate(name, objective)
                break
            except (RuntimeError, MemoryError) as error:
                micro = min(self.settings.micro_batch or total, self.engine.share(total)[1])
                if out_of_memory(error) is None or self.halved >= HALVINGS or micro < 2:
                    raise
            self.halved += 1
            self.settings = self.settings.model_copy(update={"micro_batch": -(-micro // 2)})
        self.engine.sum(self.flats[name].grad)
        return sums

    def accumulate(self, name: str, objective: Objective) -> dict[str, float]:
        """Fill this objective's gradient over the micro-batches of this rank."""
        flat, total = self.flats[name], self.settings.batch_size
        (first, count), micro = self.engine.share(total), self.settings.micro_batch or total
        sums: dict[str, float] = {}
        place, steps = position(self.legs, self.step)
        flat.clear()
        self.engine.seed(seed_of("dropout", self.seed, self.step, name, first))
        for start in range(first, first + count, micro):
            rows = min(micro, first + count - start)
            batch = self.loader.batch((self.step + self.guard.passed) * total, start, rows, total, stream=name)
            batch = replace(batch, progress=place / steps)
            with autocast(self.precision, self.engine.device):
                loss = objective.loss(batch)
            weight = rows / total
            (loss.value * weight if weight != 1 else loss.value).backward()
            for key, value in (*loss.parts.items(), (name, loss.value)):
                sums[key] = sums.get(key, 0.0) + float(value.detach()) * weight
        flat.collect()
        return sums

    # -- the loop ------------------------------------------------------------------------------------------------

    def run(
        self,
        *,
        on_step: Callable[[dict[str, float]], None] | None = None,
        on_interval: Callable[[], None] | None = None,
        on_save: Callable[[], None] | None = None,
        on_plan: Callable[[list[Leg]], None] | None = None,
    ) -> None:
        """Train to `steps`, or until `stop` is set. Between steps: `on_step`; at their intervals the next two, of which
        the first may raise LookLeft; `on_plan` after each correction of the plan.
        """

        def look() -> None:
            if on_interval:
                self.look(on_interval)
                if self.rarer() and on_plan:
                    on_plan(self.legs)

        save_every = self.settings.save_every or max(1, -(-self.steps // 4))
        record: dict[str, float] = {}
        self.family.train()
        with self.engine.threaded():
            if self.owed:
                look()
                if not self.poisoned(record) and on_save:  # with what was settled for the look
                    on_save()
            ended = self.step >= self.steps
            while not ended and not self.stopping():
                before, leg = self.step, leg_at(self.legs, self.step)
                self.steps = leg.steps
                self.engine.use(leg.threads)
                began = self.clock()
                record = self.update()
                self.recent.append(self.clock() - began)
                self.seconds += self.recent[-1]
                if self.budget is None:
                    del self.recent[:-100]
                if self.step != before + 1:
                    continue  # it went back
                self.steps = leg_at(self.legs, self.step).steps
                if self.budget is not None and self.engine.agree(sum(self.recent) >= CHECKED * self.budget):
                    self.correct()
                    if on_plan:
                        on_plan(self.legs)
                if on_step:
                    on_step(record)
                here = due(self.legs, self.step) or self.step == self.steps
                if (here or self.step % save_every == 0) and self.poisoned(record):
                    continue
                if here:
                    look()
                    if self.poisoned(record):  # what a family settles is saved, too
                        continue
                good = not self.guard.skipped  # else nobody knows yet whether training is to go back
                if on_save and ((good and self.step % save_every == 0) or self.step == self.steps):
                    began = self.clock()
                    on_save()
                    self.seconds += self.clock() - began
                ended = self.step >= self.steps  # `on_interval` may have ended the run
        if not ended and not self.poisoned(record) and on_save and self.step % save_every:
            on_save()

    def stopping(self) -> bool:
        """Whether training is to stop here: on one rank, so on all."""
        if stopped := self.engine.any(self.stop is not None):
            self.stop = self.stop or "another rank"
        return stopped

    @property
    def unfinished(self) -> bool:
        """Whether something of what is planned is left."""
        return self.step < self.steps or self.owed

    def look(self, on_interval: Callable[[], None]) -> None:
        """Let the model with averaged weights be looked at, and note how long that takes."""
        began, self.owed = self.clock(), False
        try:
            with self.averaged():
                on_interval()
        except LookLeft:
            self.owed = True
        self.look_seconds = self.clock() - began
        self.looked += self.look_seconds
        self.seconds += self.look_seconds
        self.looks += 1

    def between(self) -> float:
        """The expected seconds of training from one look to the next, from the time that the last steps took."""
        return leg_at(self.legs, self.step).every * statistics.mean(self.recent) if self.recent else 0.0

    def rarer(self) -> bool:
        """Make later looks as rare as they are slow, in a run of a number of steps whose looks nobody has fixed. True
        if that changed the plan. The first look does not count: it also finds out how many samples there is time for.
        """
        if not self.loose or self.looks < 2 or self.step + 1 >= self.steps:
            return False
        leg, allowed = leg_at(self.legs, self.step), max(QUICK, SHARE * self.between())
        longer = 1.0 if self.look_seconds <= allowed else self.look_seconds / max(SHARE * self.between(), 1e-9)
        every = int(self.engine.agree(min(float(self.steps), math.ceil(leg.every * longer))))
        if every <= leg.every:
            return False
        self.legs = [*self.legs, Leg(self.step + 1, self.steps, every, leg.threads)]
        return True

    def correct(self) -> None:
        """Compare what the last steps took with the plan, and from here on follow a plan that ends with the budget.

        Threads are measured again where steps take much longer or shorter than they did: the steps until the next check
        run on the other number of threads, and the better one stays.
        """
        assert self.budget is not None
        old = leg_at(self.legs, self.step)
        each, self.recent = statistics.mean(self.recent), []
        if self.step >= self.steps:
            return
        threads = self.rethink(old.threads, each)
        if self.tried is not None:
            each = min(each, self.tried[1])
        allowed = max(0.0, LOOKING * self.budget - self.looked)
        planned = 1 + (self.steps - 1 - self.step) // old.every
        few = max(1, min(planned, int(allowed / self.look_seconds))) if self.look_seconds else planned
        left = self.budget - self.seconds - few * self.look_seconds
        left = max(left, self.budget / 2 - (self.seconds - self.looked))  # slow looks leave half of it to the steps
        steps, every = self.steps, old.every
        if abs((self.steps - self.step) * each - left) > PLAN_SLACK * self.budget:
            steps = max(self.step + max(1, int(left / each)), LEAST_STEPS)
        if few < planned:
            every = max(1, -(-(steps - self.step) // few))
        agreed = [int(self.engine.agree(value)) for value in (steps, every, threads)]
        new = Leg(self.step, *agreed)
        if new[1:] != old[1:]:
            self.legs = [leg for leg in self.legs if leg.at < self.step] + [new]
            self.steps = new.steps

    def rethink(self, threads: int, each: float) -> int:
        """The threads of the next steps, after steps on `threads` that took `each` seconds."""
        if self.engine.most == 1:
            return threads
        if self.tried is not None:
            before, took = self.tried
            self.tried = None
            better = each < FASTER * took
            self.usual = each if better else took
            return threads if better else before
        if self.usual is None:
            self.usual = each
        if self.usual / CHANGED < each < self.usual * CHANGED:
            return threads
        self.tried = (threads, each)
        return self.engine.most if threads == 1 else 1

    @contextmanager
    def averaged(self) -> Iterator[Family]:
        """Within this context, the family has its averaged weights and is in evaluation mode."""
        self.ema.swap()
        self.family.eval()
        try:
            yield self.family
        finally:
            self.ema.swap()
            self.family.train()

    # -- state ---------------------------------------------------------------------------------------------------

    def tensors(self) -> saving.Groups:
        """The tensors that a run needs to be resumed: weights, their average, and the state of the optimiser."""
        return saving.tensors_of(self.family, self.flats, self.ema)

    def state(self) -> dict[str, Any]:
        return self.guard.state() | {name: getattr(self, name) for name in ("step", "steps", "seconds", "owed")}

    def restore(self, tensors: saving.Groups, state: dict[str, Any]) -> None:
        """Set what `tensors` and `state` gave. Of weights alone, those of another run, training begins."""
        with saving.fitting_this_model():
            saving.put_back(tensors, self.family, self.flats, self.ema)
            if "optimiser" not in tensors:
                return
            self.step, self.seconds, self.owed = int(state["step"]), float(state["seconds"]), bool(state.get("owed"))
            self.guard.restore(state)
            if self.step >= int(state["steps"]) and self.legs[-1].at != self.step:
                self.steps = self.step  # a run that ended early has ended, unless its plan goes on from there

    def go_further(self, steps: int | None, budget: float | None = None) -> None:
        """Plan to have so many `steps` in all, or to have trained so many seconds, more than was planned. How many
        steps these buy is first what the run's own did, and then corrected as every budget is.
        """
        if budget is not None:
            self.budget, self.loose = budget, False
            steps = self.step + max(1, int((budget - self.seconds) * self.step / self.seconds))
        assert steps is not None
        self.legs = further(self.legs, self.step, steps, self.settings.sample_every)
        self.steps = steps
