"""What `sample` is asked of texts: prompts, lengths, stop texts, patterns, streams and the likeliest."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quintet.core.errors import Unsupported, UsageError

if TYPE_CHECKING:
    from quintet.model.fitted import Fitted
    from quintet.model.writing import Writer
    from quintet.runs.folder import Run


ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


def unescaped(text: str) -> str:
    """A text as it is typed in a shell, with \\n, \\t, \\r and \\\\ as what they stand for."""
    return re.sub(r"\\([ntr\\])", lambda found: ESCAPES[found[1]], text)


@dataclass(frozen=True)
class Asked:
    """The options of `sample` that are about texts."""

    prompt: str | None
    length: int | None
    stop: tuple[str, ...]
    regex: str | None
    stream: bool
    n_best: int | None
    settings: dict[str, Any]
    seed: int

    def __post_init__(self) -> None:
        if self.n_best is not None and (self.n_best < 1 or self.stream):
            raise UsageError("--n-best is at least 1, and not for a stream", where=f"--n-best {self.n_best}")

    @property
    def one(self) -> bool:
        """Whether one text is made unless a number is given."""
        return self.stream or self.n_best is not None

    def writer(self, model: Fitted, condition: Any, n: int) -> Writer:
        """The model at work on n such texts."""
        from quintet.model.writing import Wanted, Writer

        wanted = Wanted([self.prompt or ""] * n, condition, self.length, self.stop, self.regex, None, self.seed,
                        self.settings)  # fmt: skip
        return Writer(model, wanted)

    def facts(self) -> dict[str, Any]:
        """What was asked, for the note of a file."""
        given = {"prompt": self.prompt, "length": self.length, "stop": list(self.stop), "regex": self.regex,
                 "n_best": self.n_best}  # fmt: skip
        return {name: value for name, value in given.items() if value is not None and value != []}

    def table(self, folder: Run, output: str | None) -> str:
        """Where the likeliest go; a format that does not fit is an error before the work is done."""
        from quintet.registry import RESULTS

        path = output or f"{folder.name}-best{RESULTS.suffix}"
        RESULTS.check_output(path)
        return path

    def items(self, model: Fitted, condition: Any, n: int, as_json: bool) -> Any:
        """n raw items, or the table of the likeliest."""
        from quintet.modalities.text.codec import HOLE

        if self.n_best is not None:
            return self.best(model, condition, n)
        if self.stream:
            return [self.streamed(model, condition, i, as_json) for i in range(n)]
        limited = self.length is not None or bool(self.stop) or self.regex is not None
        if limited or (self.prompt is not None and HOLE not in self.prompt and writes(model)):
            return self.writer(model, condition, n).write()
        if self.prompt is None:
            return model.draw(n, seed=self.seed, condition=condition, sampling=self.settings)
        return model.complete([self.prompt] * n, seed=self.seed, condition=condition, sampling=self.settings)

    def best(self, model: Fitted, condition: Any, n: int) -> Any:
        """A table with a row for each of the likeliest."""
        import pyarrow as pa

        assert self.n_best is not None
        found = self.writer(model, condition, n).n_best(self.n_best)
        rows = [
            {"item": i, "rank": rank, "log_prob": one.log_prob, "score": one.score, "text": one.item}
            for i, several in enumerate(found)
            for rank, one in enumerate(several, 1)
        ]
        return pa.Table.from_pylist(rows)

    def streamed(self, model: Fitted, condition: Any, i: int, as_json: bool) -> str:
        """Text i, written to standard output (standard error with --json) as it is made."""
        import numpy as np

        to, text = sys.stderr if as_json else sys.stdout, ""
        one = condition[i] if isinstance(condition, list | tuple | np.ndarray) else condition
        for piece in self.writer(model, one, 1).stream(i):
            text += piece
            print(piece, end="", file=to, flush=True)
        print(file=to, flush=True)
        return text


def writes(model: Fitted) -> bool:
    """Whether it writes symbol by symbol."""
    from quintet.model.writing import parts_of

    try:
        parts_of(model)
    except Unsupported:
        return False
    return True
