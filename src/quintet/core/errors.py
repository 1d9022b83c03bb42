"""Typed errors that say what, where, why, and what to do about it."""

from __future__ import annotations

import difflib
import errno
import sys
import warnings
from collections.abc import Iterable

from quintet.core.listening import listener


class QuintetError(Exception):
    """Base of every error that quintet raises on purpose.

    `what` went wrong, `where` (file, row, option), `why`, and the command or change that `fix`es it; where nothing
    better is known, the `remedy` of its class. `exit_code` is what the command line exits with. The name of the class
    is the code of the error, everywhere: docs/errors.md lists what each says.
    """

    exit_code = 3
    remedy = "set QUINTET_DEBUG=1 and repeat the command: it then shows the traceback"

    def __init__(self, what: str, *, where: str = "", why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.why, self.fix = what, where, why, fix or self.remedy

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, str]:
        """The same four fields, and the name of the class, for JSON."""
        return {"error": type(self).__name__, "what": self.what, "where": self.where, "why": self.why, "fix": self.fix}


class QuintetWarning(UserWarning):
    """Something that went wrong and was made good: a damaged checkpoint that an older one stands in for."""


PASSED = ("quintet", "torch", "contextlib", "functools")
"""Packages between a line of a user's program and what warns: ours, and what calls our functions back."""


def warn(what: str, kind: str = "") -> None:
    """Say what was made good, or as advice of some `kind` what one may try: to the listener; without one as a warning
    at the line of the user's program that led to it.
    """
    if (heard := listener()) is not None:
        return heard.note(kind, what)
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in PASSED:
        frame = frame.f_back
    said = frame.f_globals.setdefault("__warningregistry__", {})
    module = frame.f_globals.get("__name__", "")
    told = f"{kind}: {what}" if kind else what
    warnings.warn_explicit(told, QuintetWarning, frame.f_code.co_filename, frame.f_lineno, module, said)


class UsageError(QuintetError):
    """A call that cannot be carried out as it was made (unknown verb, name or option)."""

    exit_code = 2
    remedy = "quintet VERB --help, or help(quintet.Model) in Python, says what may be given"


class RunExists(UsageError):
    """The name that a new run was to get already belongs to another run."""


class Unsupported(UsageError):
    """An operation that this family, or this combination of family and space, does not have."""

    remedy = "quintet inspect RUN says what its model can do, and docs/capabilities.md what every family can"


class ConfigError(QuintetError):
    """A configuration with an unknown key or a value out of range."""

    remedy = "quintet train FAMILY --dry-run shows every option"


class DataError(QuintetError):
    """Data that cannot be read or does not fit what the model was trained on."""

    remedy = "quintet data SOURCE shows how data are read, and quintet inspect RUN what its model was trained on"


class CheckpointError(QuintetError):
    """A run folder or a checkpoint that is missing, damaged, or belongs to something else."""

    remedy = "quintet inspect RUN --verify lists every damaged file"


class EnvironmentFault(QuintetError):
    """The machine's fault: a full disk, a missing device, a locked run."""

    exit_code = 4
    remedy = "quintet doctor checks this machine"


def out_of_memory(error: BaseException) -> EnvironmentFault | None:
    """An error of Python, NumPy, Arrow or torch that means that memory ran out, as a fault that says what to lower;
    None for any other error.
    """
    text = str(error)
    lacking = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    lacking |= isinstance(error, OSError) and error.errno == errno.ENOMEM
    lacking |= isinstance(error, RuntimeError) and any(part in text for part in ALLOCATION)
    if not lacking:
        return None
    return EnvironmentFault(
        "out of memory",
        why=text.strip().splitlines()[0][:200] if text.strip() else "an array did not fit into memory",
        fix="lower --training.batch_size (or --training.micro_batch), choose --preset tiny or a smaller --model.width, "
        "or use smaller items (--data.size, --coding.block)",
    )


ALLOCATION = ("can't allocate memory", "not enough memory", "Storage size calculation overflowed")
"""What torch says when the processor's memory does not suffice."""


class Diverged(QuintetError):
    """Training produced NaN or Inf and could not recover."""

    exit_code = 5
    remedy = "lower the learning rate with --training.lr"


def meant(name: str, known: Iterable[str]) -> str:
    """The known name that is nearest to a wrong one, as a question with a blank behind it; "" if none is near."""
    near = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f"did you mean {near[0]}? " if near else ""
