"""The protocol that all families speak."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, NoReturn, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from quintet.core import settings
from quintet.core.errors import Unsupported
from quintet.core.random import Generator, Tape
from quintet.core.spaces import Continuous, Discrete, Space

OnStep = Callable[[int, int, Tensor], None]
"""Called as on_step(step, steps, x) while sampling; raising in it stops the work."""


@dataclass(frozen=True)
class Batch:
    """x (B, *space.shape), cond (B, *condition.shape) or None, and the random numbers that belong to these rows.

    `progress`: the share of the training that lies behind; 1 when it is over.
    """

    x: Tensor
    cond: Tensor | None = None
    generator: Generator | None = None
    progress: float = 1.0


@dataclass(frozen=True)
class Loss:
    """`value` (): mean over the batch, per dimension. `parts`: scalars to log."""

    value: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


class Objective(NamedTuple):
    """A loss and the module whose parameters minimise it."""

    module: nn.Module
    loss: Callable[[Batch], Loss]


class Part(NamedTuple):
    """A method of a family that is a function of tensors alone, so that it can be used without quintet.

    `inputs`: examples by name, of a few items along the first axis; `free`: other axes that may have any length, by
    name of the input; `noise`: which inputs are random numbers, and of which kind (normal, uniform).
    """

    method: Callable[..., Any]
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    free: Mapping[str, Mapping[int, str]] = {}
    noise: Mapping[str, str] = {}
    sampling: Any = None
    """What the method is told as `sampling`, if anything."""


class Family(nn.Module, ABC):
    """A deep generative model over one space, possibly given a condition.

    Required: `loss` (or `objectives`) and `sample`. The rest is what the family has; what it lacks stands in `missing`
    with the reason, and raises `Unsupported`. All tensors are encoded: codecs translate.
    """

    class Settings(settings.Settings):
        """Architecture and loss."""

    class Sampling(settings.Settings):
        """How samples are drawn."""

    name: ClassVar[str]
    about: ClassVar[str]
    """What it is good at, and what that costs: a line for somebody who is to choose."""
    accepts: ClassVar[tuple[type[Space], ...]]
    likelihood: Literal["exact", "bound", "estimate", "none"]
    missing: Mapping[str, str] = {}
    """What it lacks; of a model, by its settings, perhaps more than of its class. `likelihood` is then "none" too."""

    in_order: bool = False
    """Whether it knows each symbol given those before it, from left to right: `log_prob_each`, and `nets.decoding.
    InOrder` to write texts."""

    ragged: bool = False
    """Whether a batch costs what its longest item does, so that batches should hold items of similar length."""

    masses: bool = False
    """Whether its likelihood of quantised data is a mass, so that it reads them as they are, without noise."""

    def __init__(self, space: Space, condition: Space | None = None) -> None:
        super().__init__()
        if not isinstance(space, self.accepts):
            wanted = " or ".join(kind.__name__ for kind in self.accepts)
            raise Unsupported(
                f"the family {self.name} needs {wanted} data, got {type(space).__name__}",
                fix="choose a codec with that representation (--coding.representation, --codec), or another family",
            )
        self.space, self.condition = space, condition

    def noisy(self, x: Tensor, generator: Generator | None) -> Tensor:
        """x as the family is to see it: quantised data with uniform noise of one bin, unless it has `masses`."""
        if self.masses or not isinstance(self.space, Continuous):
            return x
        return self.space.dequantise(x, generator)

    def initialise(self, batch: Batch) -> None:
        """Set the constants that are read off data (scales, ActNorm) from one batch, before the first step."""

    def settle(self, batches: Iterable[Batch]) -> None:
        """Set what is read off data and weights together (a prior of latents) from batches of training items: before
        each look at the model while it trains, and so at the end. The loss must not depend on it.
        """

    def objectives(self) -> dict[str, Objective]:
        """Who minimises what, in the order in which they step."""
        return {"model": Objective(self, self.loss)}

    def loss(self, batch: Batch) -> Loss:
        raise NotImplementedError("a family with several objectives has no single loss")

    @abstractmethod
    def sample(
        self,
        n: int,
        cond: Tensor | None = None,
        *,
        sampling: Any = None,
        generator: Generator | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """n new items (n, *space.shape), given `cond` (n, *condition.shape)."""

    def log_prob(self, x: Tensor, cond: Tensor | None = None, *, generator: Generator | None = None) -> Tensor:
        """(B,) nats of the encoded x, summed over dimensions: a density on Continuous, a mass on Discrete spaces."""
        self.refuse("log_prob")

    def log_prob_each(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """(B, dims) nats of each symbol given those before it, of a family that is `in_order`."""
        self.refuse("log_prob_each")

    def log_probs(self, n: int, cond: Tensor | None = None) -> Tensor:
        """(n, V) nats of each symbol of a Discrete space of one position: all that `log_prob` can say there."""
        if not isinstance(self.space, Discrete) or self.space.dims != 1:
            what = f"log_probs needs items of a single symbol, got items of shape {self.space.shape}"
            raise Unsupported(what, where=self.name)
        device = next(self.parameters()).device
        symbols = torch.arange(self.space.vocab_size, device=device)
        return torch.stack([self.log_prob(k.expand(n, *self.space.shape), cond) for k in symbols], 1)

    def log_prob_error(
        self, x: Tensor, cond: Tensor | None = None, *, generator: Generator | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """`log_prob` and, where it is a Monte Carlo estimate, the standard error of each value."""
        return self.log_prob(x, cond, generator=generator), None

    def embed_condition(self, cond: Tensor) -> Tensor:
        """(B, width): one vector that each condition (B, *condition.shape) is read as."""
        self.refuse("vector of a condition")

    def encode(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """The latent of x."""
        self.refuse("encode")

    def decode(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """The x of a latent."""
        self.refuse("decode")

    def complete(
        self,
        x: Tensor,
        known: Tensor,
        cond: Tensor | None = None,
        *,
        sampling: Any = None,
        generator: Generator | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """A draw of the unknown entries given the known ones: x (B, *space.shape), known (the same) bool.

        The known entries of the result are those of x, exactly; what x holds elsewhere is ignored.
        """
        self.refuse("complete")

    def distilled(self) -> dict[str, dict[str, Any]]:
        """The sections of settings of a model that begins with these weights and is to sample in fewer steps."""
        why = "distillation shortens sampling that removes noise from numbers in many steps, as diffusion does"
        raise Unsupported(f"a model of the family {self.name} cannot be distilled", why=why)

    # -- without quintet ----------------------------------------------------------------------------------------------

    def parts(self, x: Tensor, cond: Tensor | None, sampling: Any) -> dict[str, Part]:
        """What of it can be used without quintet; x (B, *space.shape) and cond (B, *condition.shape) are examples."""
        self.refuse("part that can be used alone")

    def constants(self, sampling: Any) -> dict[str, Any]:
        """What a sampler of these parts must know, as JSON has it."""
        return {}

    def by_noise(self, *given: Tensor, sampling: Any = None) -> Tensor:
        """`sample` as a function of its random numbers and, behind them, of the condition."""
        noise, cond = (given, None) if self.condition is None else (given[:-1], given[-1])
        return self.sample(len(noise[0]), cond, sampling=sampling, generator=Tape(noise))

    def sampled_in_one(self, n: int, cond: Tensor | None, sampling: Any) -> Part:
        """`by_noise`, of a family that makes its samples in one pass."""
        tape = Tape()
        self.sample(n, cond, sampling=sampling, generator=tape)
        names = [f"noise_{i}" for i in range(len(tape.kinds))]
        noise = dict(zip(names, tape.kinds, strict=True))
        inputs = dict(zip(names, tape.numbers, strict=True)) | given_as("cond", cond)
        return Part(self.by_noise, inputs, ("x",), noise=noise, sampling=sampling)

    def refuse(self, operation: str) -> NoReturn:
        """Raise Unsupported with this family's reason."""
        raise Unsupported(
            f"the family {self.name} does not support {operation}", why=self.missing.get(operation, "not implemented")
        )


def given_as(name: str, value: Tensor | None) -> dict[str, Tensor]:
    """An input of that name, where there is one."""
    return {} if value is None else {name: value}


@runtime_checkable
class Autoencoder(Protocol):
    """What a family must have so that others can be trained on its latents: where they live, and for codes their
    symbols.
    """

    @property
    def latent(self) -> Space: ...

    def encode(self, x: Tensor, cond: Tensor | None = None) -> Tensor: ...

    def decode(self, z: Tensor, cond: Tensor | None = None) -> Tensor: ...

    def indices(self, z: Tensor) -> Tensor: ...

    def codes(self, indices: Tensor) -> Tensor: ...

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]: ...

    def state_dict(self) -> Any: ...


OPERATIONS = ("sample", "log_prob", "complete", "encode", "decode")
"""What can be asked of a family; a test ties `missing` to the methods that are overridden."""
