"""How a run is trained, as settings; free of torch, so that a run's configuration is read in no time."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from quintet.core.settings import LARGEST_NUMBER, Settings


class TrainingSettings(Settings):
    """How a run is trained. A step is one update of every objective on `batch_size` samples."""

    batch_size: int = Field(128, ge=1, le=2**20, description="items that one update looks at")
    micro_batch: int | None = Field(
        None, ge=1, le=2**20, description="items of one backward pass, to save memory; none: the whole batch"
    )
    optimiser: Literal["adamw", "muon"] = Field(
        "adamw", description="how weights are updated; muon is for hidden matrices, with AdamW for the rest"
    )
    lr: float = Field(0.001, gt=0, description="the learning rate: how far an update goes")
    betas: tuple[float, float] = Field(
        (0.9, 0.95), description="how long the optimiser remembers gradients and their squares"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="how long muon remembers gradients")
    weight_decay: float = Field(
        0.01, ge=0, description="how strongly weights are pulled towards zero, against overfitting"
    )
    warmup: float = Field(0.05, ge=0, le=1, description="share of the steps in which the learning rate rises from zero")
    decay: Literal["cosine", "linear"] = Field("cosine", description="how the learning rate falls after the warm-up")
    final_lr: float = Field(0.0, ge=0, le=1, description="share of the learning rate that is left at the end")
    clip: float | None = Field(1.0, gt=0, description="largest norm of a gradient; longer ones are shortened")
    ema: float = Field(0.1, gt=0, lt=0.28, description="width of the moving average of weights, as a share of training")
    precision: Literal["fp32", "bf16", "auto"] = Field(
        "auto", description="numbers of 32 or of 16 bits; auto chooses by the machine"
    )
    save_every: int | None = Field(
        None, ge=1, le=LARGEST_NUMBER, description="steps between checkpoints; none: a quarter of the run"
    )
    keep: int = Field(2, ge=1, le=LARGEST_NUMBER, description="how many checkpoints are kept")
    sample_every: int | None = Field(
        None,
        ge=1,
        le=LARGEST_NUMBER,
        description="steps between looks at samples and held-out loss; none: an eighth of the run",
    )
    select: Literal["last", "quality", "held_out"] = Field(
        "last", description="whose weights are used: the last, or the best by the samples' quality or held-out loss"
    )
    patience: int | None = Field(
        None, ge=1, le=LARGEST_NUMBER, description="end training early after this many looks without a better figure"
    )

    @property
    def figure(self) -> str:
        """The live figure that `patience` watches."""
        return "quality" if self.select == "last" else self.select
