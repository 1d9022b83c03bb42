"""Requests and their operations: what each takes, refuses and tells, the same for a program and the command line."""

from __future__ import annotations

import ast
import shutil
import threading
import warnings
from abc import ABC
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from annotated_types import Ge, Gt, Le, Lt

import quintet
from quintet.cli.main import app, main
from quintet.core.errors import QuintetWarning, UsageError, warn
from quintet.core.listening import unheard
from quintet.operations.events import Advice, Event, Note, Step, heard, operation
from quintet.operations.requests import Local, Request, SampleRequest
from quintet.operations.sampling import sample


def finals(request: type[Request]) -> Iterator[type[Request]]:
    """The requests below an abstract one."""
    for one in request.__subclasses__():
        yield from finals(one) if ABC in one.__bases__ else [one]


REQUESTS = {one.__name__.removesuffix("Request").lower(): one for one in finals(Local)}


def limits(request: type[Request]) -> Iterator[tuple[str, float]]:
    """(field, a value just beyond) for each limit of each field."""
    for name, field in request.model_fields.items():
        for limit in field.metadata:
            match limit:
                case Ge(ge=least):
                    yield name, least - 1
                case Le(le=most):
                    yield name, most + 1
                case Gt() | Lt():
                    raise AssertionError("limits are those that may still be taken")


BEYOND = [(verb, name, value) for verb, request in REQUESTS.items() for name, value in limits(request)]


@pytest.mark.parametrize("verb", REQUESTS)
def test_every_field_is_described(verb: str) -> None:
    request = REQUESTS[verb]
    assert request.__doc__
    assert not [name for name, field in request.model_fields.items() if not field.description]


@pytest.mark.parametrize("verb", REQUESTS)
def test_the_options_are_the_fields(verb: str) -> None:
    """Each with the description and the default of its field."""
    shown = {name.lstrip("-").replace("-", "_").lower(): argument
             for argument in app[verb].assemble_argument_collection() for name in argument.names}  # fmt: skip
    for name, field in REQUESTS[verb].model_fields.items():
        if name in shown:
            told = shown[name].parameter.help
            assert told.startswith(field.description)
            if type(field.default) in (int, str):
                assert told.endswith("]")


@pytest.mark.parametrize(("verb", "name", "value"), BEYOND)
def test_a_value_beyond_its_limit_is_refused_alike(
    verb: str, name: str, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a program and on the command line, with the same words, before anything is opened."""
    request = REQUESTS[verb]
    given = {key: "r" for key, field in request.model_fields.items() if field.is_required()}
    with pytest.raises(UsageError, match=rf"(?m)^{name} {value}: at (least|most) [\d,]+$") as refused:
        request(**given, **{name: value})
    option = f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}"
    assert main([verb, *given.values(), f"{option}={value}"]) == 2
    assert capsys.readouterr().err == f"error[{type(refused.value).__name__}]: {refused.value}\n"


def test_requests_refuse_what_they_do_not_know() -> None:
    with pytest.raises(UsageError, match="unknown field 'sede'") as error:
        SampleRequest(run="r", sede=1)  # type: ignore[call-arg]
    assert "did you mean seed" in error.value.why
    with pytest.raises(UsageError, match="run is missing"):
        SampleRequest.model_validate({})
    with pytest.raises(UsageError, match=r"^n 'many': "):
        SampleRequest.model_validate_json('{"run": "r", "n": "many"}')
    with pytest.raises(UsageError, match="condition and conditions were both given"):
        SampleRequest(run="r", condition="1", conditions=Path("c.txt"))


# -- events ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("operations")
    quintet.train("diffusion", data="moons", steps=2, preset="tiny", run="one", runs=root)
    return root


def test_an_operation_says_what_it_does_and_leaves_files(runs: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    path = tmp_path / "points.csv"
    made = sample(SampleRequest(run="one", runs=runs, n=3, sampling={"steps": 4}, output=str(path)), events.append)
    assert (made.n, made.seed, made.kind, made.output) == (3, 0, "table", str(path))
    assert path.read_text().count("\n") == 4
    assert [event.step for event in events if isinstance(event, Step)] == [1, 2, 3, 4]


class Cancelled(Exception):
    """A listener has heard enough."""


def test_an_operation_ends_when_its_listener_raises(runs: Path, tmp_path: Path) -> None:
    heard: list[Event] = []

    def listen(event: Event) -> None:
        heard.append(event)
        raise Cancelled

    path = tmp_path / "points.csv"
    with pytest.raises(Cancelled):
        sample(SampleRequest(run="one", runs=runs, output=str(path)), listen)
    assert len(heard) == 1
    assert not path.exists()


def test_warnings_of_ours_are_notes_and_all_others_stay(recwarn: pytest.WarningsRecorder) -> None:
    @operation
    def work(request: Any, on_event: Any) -> str:
        for _ in range(3):
            warn("made good")  # once
        warn("train longer", "mode collapse")
        warnings.warn("of a library", UserWarning, stacklevel=1)
        return "done"

    events: list[Event] = []
    assert work(None, events.append) == "done"
    assert events == [Note("made good"), Advice("mode collapse", "train longer")]
    assert [str(one.message) for one in recwarn] == ["of a library"]
    with heard(events.append), warnings.catch_warnings():
        warn("within")
        with unheard():
            warn("of what is tried out")
    assert events[2:] == [Note("within")]
    with pytest.warns(QuintetWarning, match="mode collapse: train longer"):  # of a program that listens to nothing
        warn("train longer", "mode collapse")


def test_two_operations_at_once_have_their_own_notes() -> None:
    """Each in a thread, one within the other in time: what one says is not told to the other, nor lost."""
    begun, over = threading.Event(), threading.Event()

    @operation
    def first(request: Any, on_event: Any) -> None:
        begun.set()
        over.wait(10)
        warn("of the first")

    @operation
    def second(request: Any, on_event: Any) -> None:
        begun.wait(10)
        warn("of the second")

    told: dict[str, list[Event]] = {"first": [], "second": []}
    threads = [threading.Thread(target=work, args=(None, told[work.__name__].append)) for work in (first, second)]
    threads[0].start()
    threads[1].start()
    threads[1].join()
    over.set()
    threads[0].join()
    assert told == {"first": [Note("of the first")], "second": [Note("of the second")]}


def test_the_command_line_shows_the_same_words(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A note is one line on standard error."""
    damaged, path = tmp_path / "one", tmp_path / "points.csv"
    shutil.copytree(runs / "one", damaged)
    weights = max((damaged / "checkpoints").iterdir()) / "ema.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    heard: list[Event] = []
    sample(SampleRequest(run=str(damaged), output=str(path)), heard.append)
    told = [event.text for event in heard if isinstance(event, Note)]
    assert "the checkpoint before it is tried" in told[0]
    assert main(["sample", str(damaged), "-o", str(path)]) == 0
    assert capsys.readouterr().err == "".join(f"warning: {text}\n" for text in told)


def test_operations_do_not_print() -> None:
    for path in (Path(quintet.__file__).parent / "operations").glob("*.py"):
        calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert "print" not in calls, path
