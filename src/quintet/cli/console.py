"""What the verbs share: answers, errors and exit codes, progress, signals."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

from quintet.core.errors import EnvironmentFault, QuintetError, QuintetWarning, out_of_memory
from quintet.core.plain import plain, redraws, visible
from quintet.operations.events import Advice, Begun, Event, Note, Piece, Record, Stop
from quintet.operations.records import last

if TYPE_CHECKING:
    from quintet.cli.options import Sections

BROKEN_PIPE = 141
INTERNAL = 1


@dataclass(frozen=True)
class Answer:
    """A verb's result: `data` for --json, `text` for people, and the exit code."""

    data: Mapping[str, Any]
    text: str
    code: int = 0


# -- standard output and standard error ------------------------------------------------------------------------------


def show(answer: Answer, as_json: bool) -> None:
    """The answer on standard output, once: only the first of several ranks speaks."""
    if os.environ.get("RANK", "0") == "0":
        text = json.dumps(plain(answer.data), allow_nan=False) if as_json else answer.text.rstrip("\n")
        print(visible(text) if sys.stdout.isatty() else text, flush=True)


def tell(text: str) -> None:
    """A line on standard error. If nobody reads that any more, work goes on all the same."""
    with suppress(OSError):
        print(visible(text), file=sys.stderr, flush=True)


def complain(error: QuintetError, as_json: bool) -> int:
    """An error on standard error, and as an object on standard output with --json. Returns the exit code."""
    tell(f"error[{type(error).__name__}]: {error}")
    if as_json:
        show(Answer(error.as_dict(), ""), as_json)
    return error.exit_code


def halted(received: signal.Signals, as_json: bool) -> int:
    """A signal ended the work before it could be saved. Returns the exit code."""
    what = f"stopped by {received.name}"
    tell(what)
    if as_json:
        show(Answer({"error": "Stopped", "what": what, "where": "", "why": "", "fix": ""}, ""), as_json)
    return 128 + received


def unexpected(error: Exception, as_json: bool) -> int:
    """Out of memory and the like are the machine's fault; anything else is ours. Returns the exit code."""
    if os.environ.get("QUINTET_DEBUG"):
        raise error
    memory = out_of_memory(error)
    if memory is not None:
        return complain(memory, as_json)
    if isinstance(error, OSError):
        return complain(EnvironmentFault(error.strerror or str(error), where=str(error.filename or "")), as_json)
    why = f"{type(error).__name__}: {error}"
    complain(QuintetError("an error in quintet itself", why=why), as_json)
    return INTERNAL


def lenient() -> None:
    """A character that standard output cannot encode is written as \\u2588: an answer is never lost to it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def quiet() -> None:
    """quintet's own warnings become one line on standard error; those of the libraries below say nothing to a user."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    warnings.simplefilter("ignore")
    warnings.simplefilter("default", QuintetWarning)

    def line(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"warning: {message}", file=sys.stderr, flush=True)

    warnings.showwarning = line


def columns(rows: Sequence[Sequence[Any]], header: Sequence[str] = ()) -> str:
    """Rows as left-aligned text columns."""
    cells = [[str(cell) for cell in row] for row in ([header] if header else []) + list(rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in cells)


def number(value: Any, digits: int = 4) -> str:
    """A figure for people; "-" where there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    return f"{value:.{digits}g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)


def clock(seconds: float) -> str:
    """65 -> 1:05."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


# -- records of training ---------------------------------------------------------------------------------------------


def figures(news: Mapping[str, Any]) -> list[str]:
    """Loss, that of unseen items, and quality, where they are known."""
    names = {"loss": "loss", "held_out": "unseen", "quality": "quality"}
    return [f"{name} {number(news[key])}" for key, name in names.items() if news.get(key) is not None]


# -- progress --------------------------------------------------------------------------------------------------------

EVERY = 5.0
"""Seconds between two lines where standard error is not a terminal."""
WIDE = 120
"""Columns from which a terminal has room for a bar beside the figures."""


class Progress:
    """Shows training on standard error: a bar on a terminal, else a line now and then."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.news: dict[str, Any] = {}
        self.began: tuple[float, int] | None = None  # when the first record came, and its step
        self.said = -math.inf
        self.bar: Any = None
        self.task: Any = None

    def __enter__(self) -> Self:
        if redraws() and os.environ.get("RANK", "0") == "0":
            from rich.console import Console
            from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, TextColumn
            from rich.progress import Progress as Bar
            from rich.table import Column

            console = Console(stderr=True)
            shown = TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
            parts: list[ProgressColumn] = [
                SpinnerColumn(),
                TextColumn("{task.description}", table_column=Column(no_wrap=True)),
                shown,
            ]
            if console.width >= WIDE:
                parts.insert(2, BarColumn(30))
            self.bar = Bar(*parts, console=console, transient=True, expand=True)
            self.task = self.bar.add_task(self.title, total=None, note="reading data")
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def report(self, record: Mapping[str, Any]) -> None:
        """Take one record of a run."""
        if "family" in record:  # of a comparison: which run this is about
            title = f"{record['family']} (seed {record['seed']})"
            if title != self.title:
                self.title, self.news, self.began, self.said = title, {}, None, -math.inf
        now = time.monotonic()
        if "doing" in record:  # what comes after training, which has no steps
            if self.bar is not None:
                self.bar.update(self.task, description=self.title, completed=None, note=record["doing"])
            elif os.environ.get("RANK", "0") == "0":
                print(f"{self.title}: {record['doing']}", file=sys.stderr, flush=True)
            return
        self.began = self.began or (now, record["step"])
        self.news = {**self.news, **{key: value for key, value in last([record]).items() if value is not None}}
        if self.bar is not None:
            self.bar.update(
                self.task,
                description=self.title,
                completed=record["step"],
                total=record["steps"],
                note=self.line(now),
            )
        elif now - self.said >= EVERY and os.environ.get("RANK", "0") == "0":
            self.said = now
            print(f"{self.title}: {self.line(now)}", file=sys.stderr, flush=True)

    def line(self, now: float) -> str:
        """Step, rate, time left, and the figures."""
        step, steps = self.news["step"], self.news["steps"]
        began, first = self.began or (now, step)
        parts = [f"step {step:,}/{steps:,}"]
        if step > first and now > began:
            rate = (step - first) / (now - began)
            parts += [f"{rate:.3g} steps/s", f"{clock((steps - step) / rate)} left"]
        return "  ".join(parts + figures(self.news))


# -- signals ---------------------------------------------------------------------------------------------------------


class Stopped(KeyboardInterrupt):
    """A signal ended the work. Not an Exception, so that nothing on the way takes it for an error."""

    def __init__(self, received: signal.Signals) -> None:
        super().__init__(received.name)
        self.received = received


class Signals:
    """Inside, SIGINT, SIGTERM and SIGHUP `stop` training behind its step, when it is saved; else they raise Stopped.

    A second SIGINT raises at once. Who started the program with nohup wants SIGHUP to do nothing.
    """

    def __init__(self) -> None:
        self.stop: Stop | None = None
        self.received: signal.Signals | None = None
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in HEARD if (number, signal.getsignal(number)) != NOHUP]
            self.before = {number: signal.signal(number, self.handle) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def handle(self, number: int, _: FrameType | None) -> None:
        again, self.received = self.received is not None, signal.Signals(number)
        if number == signal.SIGHUP:
            silence()
        if self.stop is None or (again and number == signal.SIGINT):
            raise Stopped(self.received)
        self.stop(self.received.name)
        note = f"\n{self.received.name}: finishing this step and saving (Ctrl-C again stops at once)\n"
        with suppress(OSError):
            os.write(2, note.encode())  # print may be what the signal interrupted


HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NOHUP = (signal.SIGHUP, signal.SIG_IGN)


def silence() -> None:
    """Where standard output or standard error is a terminal that is gone, what is said from here on is lost: it must
    not end what is still to be saved.
    """
    for fd in (1, 2):
        try:
            os.write(fd, b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), fd)


@dataclass
class Context:
    """What the program gives to a verb beside its options."""

    sections: Sections = field(default_factory=dict)
    signals: Signals = field(default_factory=Signals)
    json: bool = False
    request: Any = None
    progress: Progress | None = None
    folders: list[tempfile.TemporaryDirectory[str]] = field(default_factory=list)

    def temporary(self) -> Path:
        """A folder that is removed with this context."""
        self.folders.append(tempfile.TemporaryDirectory(prefix="quintet-"))
        return Path(self.folders[-1].name)

    def stopped(self, data: Mapping[str, Any], what: str, told: str, where: str, fix: str, text: str = "") -> Answer:
        """The answer of work that a signal has stopped: what it came to, and how it goes on."""
        assert self.signals.received is not None
        tell(f"{told}\n  go on: {fix}")
        stop = {"error": "Stopped", "what": what, "where": where, "why": "", "fix": fix}
        return Answer({**data, **stop}, text, 128 + self.signals.received)

    @contextmanager
    def showing(self, title: str) -> Iterator[None]:
        """Inside, records are shown as the progress of what the title says."""
        with Progress(title) as self.progress:
            yield

    def on_event(self, event: Event) -> None:
        """Notes and progress go to standard error, pieces of a text to standard output, which --json leaves to the
        answer; from the beginning of training on signals stop it.
        """
        match event:
            case Note(text):
                tell(f"warning: {text}")
            case Advice(kind, text):
                tell(f"warning: {kind}: {text}")
            case Record(values) if self.progress is not None:
                with suppress(OSError):
                    self.progress.report(values)
            case Begun(stop):
                self.signals.stop = stop
            case Piece(_, text, over):
                print(text, end="\n" * over, file=sys.stderr if self.json else sys.stdout, flush=True)
