"""What operations result in. It is free of torch, since looking at a run needs none."""

from __future__ import annotations

from abc import ABC
from typing import Any

from pydantic import BaseModel, ConfigDict


class Result(BaseModel, ABC):
    """Base of all results: what was done, as JSON has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def facts(self) -> dict[str, Any]:
        """The fields that this result has."""
        return self.model_dump(exclude_unset=True)


class CompletionResult(Result):
    """The script that completes verbs and options in a shell."""

    shell: str
    script: str
