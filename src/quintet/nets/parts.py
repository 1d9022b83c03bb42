"""The parts of a model of the next symbol that are used without quintet: begin, step, and the condition once read."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quintet.core.family import Part, given_as
from quintet.nets.given import Given
from quintet.nets.transformer import Cache


class Stepwise(nn.Module):
    """A family that knows the next symbol, as functions of tensors: what it has read is one of them."""

    def __init__(self, family: Any) -> None:
        super().__init__()
        self.family, self.dims = family, family.space.dims
        self.few = 0 if family.recent is None else family.recent.most - 1  # symbols that are read again

    def begin(self, rows: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        """The logits (B, V) of the first symbol, and what `step` needs: keys and values (B, layers, heads, 1, d) of the
        start and, if runs of symbols are read, those before it (B, few). rows (B,): as many as its length.
        """
        nothing = torch.zeros(len(rows), 0, dtype=torch.long, device=rows.device)
        return self.behind(nothing, Cache(self.dims, grows=True), *given)

    def step(self, x: Tensor, keys: Tensor, values: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        """x (B, 1), the next symbol, behind those of which keys and values (B, layers, heads, past, d) are."""
        cache = Cache(self.dims, keys.shape[3], grows=True)
        cache.layers = {i: (keys[:, i], values[:, i]) for i in range(keys.shape[1])}
        if self.few:
            cache.last, given = given[0], given[1:]
        return self.behind(x, cache, *given)

    def behind(self, x: Tensor, cache: Cache, *given: Tensor) -> tuple[Tensor, ...]:
        """The logits behind x, and the cache as tensors. `given`: the condition, or the context that it is read as."""
        if len(given) == 2:
            told = Given(context=given[0], seen=given[1])
        else:
            told = self.family.given(given[0] if given else None, len(x))
        logits = self.family.logits(x, told, cache)[:, -1]
        state = [torch.stack([pair[i] for pair in cache.layers.values()], 1) for i in range(2) if cache.layers]
        if self.few:
            assert cache.last is not None
            state.append(F.pad(cache.last, (self.few, 0), value=self.family.recent.nothing)[:, -self.few :])
        return logits, *state

    def read_condition(self, cond: Tensor) -> tuple[Tensor, Tensor]:
        """The context (B, S, width) of a condition that is read step by step, and which of it is seen (B, S)."""
        told = self.family.given(cond, len(cond))
        seen = torch.ones(told.context.shape[:2], dtype=torch.bool, device=cond.device)
        return told.context, seen if told.seen is None else told.seen

    def parts(self, x: Tensor, cond: Tensor | None) -> dict[str, Part]:
        """See `Family.parts`."""
        given, parts = given_as("cond", cond), {}
        if cond is not None and self.family.net.readers:
            context, seen = self.read_condition(cond)
            parts["context"] = Part(self.read_condition, given, ("context", "seen"))
            given = {"context": context, "seen": seen}
        rows = torch.zeros(len(x), device=x.device)
        first = self.begin(rows, *given.values())
        state = ("keys", "values", "last")[: len(first) - 1] if len(first) != 2 else ("last",)
        made = [f"new_{name}" for name in state]
        parts["begin"] = Part(self.begin, {"rows": rows} | given, ("logits", *made))
        if self.dims > 1:
            behind, new, free = first[1:], x.flatten(1)[:, :1], {}
            if self.dims > 2:  # an axis of length 1 would be taken for one that never changes
                behind = self.step(new, *behind, *given.values())[1:]
                free = {name: {3: "past"} for name in ("keys", "values")}
            inputs = {"x": new} | dict(zip(state, behind, strict=True)) | given
            parts["step"] = Part(self.step, inputs, ("logits", *made), free)
        return parts
