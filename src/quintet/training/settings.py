"""How a run is trained, as settings; free of torch, so that a run's configuration is read in no time."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from quintet.core.settings import Settings


class TrainingSettings(Settings):
    """How a run is trained. A step is one update of every objective on `batch_size` samples."""

    batch_size: int = Field(128, ge=1, le=2**20)
    micro_batch: int | None = Field(None, ge=1, le=2**20, description="samples a backward pass; None: the whole batch")
    optimiser: Literal["adamw", "muon"] = Field("adamw", description="muon: for hidden matrices, AdamW for the rest")
    lr: float = Field(1e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.95)
    momentum: float = Field(0.9, ge=0, lt=1, description="of muon")
    weight_decay: float = Field(0.01, ge=0)
    warmup: float = Field(0.05, ge=0, le=1, description="share of the steps")
    decay: Literal["cosine", "linear"] = Field("cosine", description="how lr falls")
    final_lr: float = Field(0.0, ge=0, le=1, description="share of lr at the end")
    clip: float | None = Field(1.0, gt=0, description="largest norm of an objective's gradient")
    ema: float = Field(0.1, gt=0, lt=0.28, description="width of the moving average, as a share of training")
    precision: Literal["fp32", "bf16", "auto"] = "auto"
    save_every: int | None = Field(None, ge=1, description="steps between checkpoints; None: a quarter of the run")
    keep: int = Field(2, ge=1, description="checkpoints kept")
    sample_every: int | None = Field(None, ge=1, description="steps between looks; None: an eighth of the run")
    select: Literal["last", "quality", "held_out"] = Field(
        "last", description="whose weights are used: the last, or the best by the samples' quality or held-out loss"
    )
    patience: int | None = Field(None, ge=1, description="looks without a better figure until training ends early")

    @property
    def figure(self) -> str:
        """The live figure that `patience` watches."""
        return "quality" if self.select == "last" else self.select
