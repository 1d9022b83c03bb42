"""Requests as command lines and as Python: what they are spoken as asks for the same."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydantic.fields import FieldInfo
from test_operations import REQUESTS

import quintet
from quintet.cli import verbs
from quintet.cli.console import Context, Signals
from quintet.cli.main import dispatch
from quintet.core.errors import UsageError
from quintet.operations import measuring, requests, training
from quintet.operations.requests import SECTIONS, Local
from quintet.operations.spoken import by_place, command, python, verb_of

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
AWKWARD = ["-", "--", "--help", "-n", "--model.width", "--a.b=1", "a b", "it's", '"', "\n", "a\n-b", "null", "~", "",
           "no", "0100", "[1]", "{a: b}", "a: b", "#", " # x", "- x", "*", "&a", "<<", "é", "\x85", "\u2028", "%", "!",
           "'", ",", "a,b", "=", "a=b", "\\n", "\t", " ", "@", "`", "|", ">"]  # fmt: skip
WORDS = st.sampled_from(AWKWARD) | TEXTS
NAMES = WORDS.filter(lambda text: text not in ("", "-"))
"""What may stand where - is standard input, and a path."""
VALUES = st.recursive(
    st.none() | WORDS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3)
)
SETTINGS = st.dictionaries(st.from_regex(r"[a-z][a-z_]{0,7}", fullmatch=True), VALUES, max_size=3)


def values(name: str, field: FieldInfo) -> st.SearchStrategy[Any]:
    """What a field may be."""
    if name in SECTIONS.values():
        return SETTINGS
    kinds = [kind for kind in get_args(field.annotation) or (field.annotation,) if kind is not type(None)]
    if field.annotation == tuple[str, ...]:
        return st.lists(NAMES, max_size=3).map(tuple)
    if get_origin(field.annotation) is Literal or get_origin(kinds[0]) is Literal:
        return st.sampled_from(get_args(kinds[0]) or get_args(field.annotation))
    limits = {key: getattr(one, key) for one in field.metadata for key in ("ge", "le") if hasattr(one, key)}
    of = {
        bool: st.booleans(),
        int: st.integers(limits.get("ge", -9), limits.get("le", 10**6)),
        str: NAMES | st.just(""),
        Path: NAMES.map(Path),
    }
    return of[kinds[0]]


@st.composite
def asked(draw: st.DrawFn) -> Local:
    """Any request that may be made."""
    kind = REQUESTS[draw(st.sampled_from(sorted(REQUESTS)))]
    fields = {name: field for name, field in kind.model_fields.items() if field.is_required() or draw(st.booleans())}
    try:
        return kind(**{name: draw(values(name, field)) for name, field in fields.items()})
    except UsageError:
        assume(False)
        raise


def heard(words: list[str], monkeypatch: pytest.MonkeyPatch) -> Local:
    """The request that the command line makes of these words."""
    told: list[Local] = []

    def note(context: Context, name: str, value: Any) -> None:
        if isinstance(value, Local):
            told.append(value)
            raise UsageError("enough is heard")
        object.__setattr__(context, name, value)

    monkeypatch.setattr(Context, "__setattr__", note)
    with Signals() as signals, pytest.raises(UsageError, match="enough is heard"):
        dispatch(words, signals)
    return told[0]


@settings(max_examples=100, deadline=None)
@given(asked())
@example(requests.SampleRequest(run="-x", prompt="--model.width", stop=("-", "-a", "b c", ""), output="-o.txt"))
@example(requests.CompareRequest(what=("--json.x", "--"), reading={"types": {"a b": "id", "<<": "x"}}))
@example(requests.TrainRequest(model={"levels": ["8", ["5", None]], "x": "null"}, reading={"group": "~"}))
@example(requests.EvaluateRequest(run="r", split="test", sampling={"steps": "-1"}))
def test_a_command_line_asks_for_what_it_was_made_of(request: Local) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert heard(command(request), monkeypatch) == request


@pytest.mark.parametrize("kind", REQUESTS.values())
def test_a_verb_is_called_as_its_request(kind: type[Local]) -> None:
    assert verb_of(kind) in verbs.SETTINGS
    assert REQUESTS[verb_of(kind)] is kind
    assert set(by_place(kind)) <= set(kind.model_fields)


def test_numbers_of_programs_become_what_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    request = requests.TrainRequest(
        family="flow", data="moons", model={"width": 64, "levels": (8, 5)}, training={"lr": 1e-5, "clip": None}
    )
    words = ["train", "flow", "--data", "moons", "--model.width", "64", "--model.levels", "[8, 5]"]
    assert command(request) == [*words, "--training.lr", "1e-05", "--training.clip", "null"]
    again = heard(command(request), monkeypatch)
    assert command(again) == command(request)


# -- Python ------------------------------------------------------------------------------------------------------------


def called(text: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """What a program calls of quintet, and of the model that it gets."""
    calls = []

    def note(name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append((name, args, kwargs))
            return types.SimpleNamespace(**{each: note(each) for each in vars(quintet.Model) if each[0] != "_"})

        return call

    with monkeypatch.context() as patch:
        for name in ("train", "compare", "resume", "load"):
            patch.setattr(quintet, name, note(name), raising=False)
        exec(compile(text, "spoken", "exec"), {})
    return calls


def test_python_trains_with_the_same_arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("training: {lr: 0.5}\nsteps: 3\n")
    request = requests.TrainRequest(family="vae", data='it\'s "here".csv', condition="label", budget="90s", run="first",
                                    config=config, model={"width": "64", "fsq_levels": ["8", "5"]},
                                    reading={"group": "2020"})  # fmt: skip
    ((name, (family,), found),) = called(python(request), monkeypatch)
    wanted = training.arguments(request)
    assert (name, family) == ("train", wanted.pop("family"))
    assert found.pop("config") == {"model": {"width": 64, "fsq_levels": [8, 5]}, "training": {"lr": 0.5},
                                   "data": {"group": "2020"}}  # fmt: skip
    assert wanted.pop("config")["model"]["width"] == "64"
    assert found == {key: value for key, value in wanted.items() if value is not None}


def test_python_compares_with_the_same_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    request = requests.CompareRequest(
        what=("digits",), families="vae, flow", condition="none", seeds=3, output="r.html"
    )
    ((name, what, found),) = called(python(request), monkeypatch)
    assert (name, what) == ("compare", ("digits",))
    assert found == {"families": ["vae", "flow"], "condition": None, "seeds": 3, "output": "r.html"}
    assert measuring.arguments(request)["families"] == ["vae", "flow"]


@pytest.mark.parametrize(("request_", "method", "args", "kwargs"), [
    (requests.SampleRequest(run="r", condition="3", seed=7), "sample", (64,), {"condition": "3", "seed": 7}),
    (requests.SampleRequest(run="r", n=2, prompt="a\n", stop=("\\n",)), "write", ("a\n",), {"n": 2, "stop": ["\n"]}),
    (requests.SampleRequest(run="r", n_best=4), "n_best", (4,), {}),
    (requests.SampleRequest(run="r", n=1, condition="{a: x, b: 007}"), "sample", (1,),
     {"condition": {"a": "x", "b": "007"}}),
    (requests.SampleRequest(run="r", prompt="a█b"), "complete", (["a█b"] * 64,), {}),
    (requests.EvaluateRequest(run="r", samples=50, budget="2m"), "evaluate", (), {"samples": 50, "budget": "2m"}),
    (requests.ScoreRequest(run="r", data="a.csv", rank=True), "rank", (Path("a.csv"),), {}),
    (requests.CompleteRequest(run="r", data="a.csv", draws=3), "complete", (Path("a.csv"),), {"draws": 3}),
    (requests.ReconstructRequest(run="r", data="a/"), "reconstruct", (Path("a"),), {}),
    (requests.EncodeRequest(run="r", data="digits"), "encode", (Path("digits"),), {}),
])  # fmt: skip
def test_python_asks_a_model_for_the_same(
    request_: Local, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, asked_for = called(python(request_), monkeypatch)
    assert loaded == ("load", ("r",), {})
    assert asked_for == (method, args, kwargs)


def test_python_goes_on_with_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    text = python(requests.ResumeRequest(run="r", runs=Path("there"), changed_data=True))
    assert called(text, monkeypatch) == [("resume", ("r",), {"runs": "there", "changed_data": True})]


@given(asked())
@settings(max_examples=60, deadline=None)
def test_python_of_any_request_is_python(request: Local) -> None:
    if isinstance(request, requests.TrainRequest):
        request = request.model_copy(update={"config": None, "family": "flow", "data": request.data or "moons"})
        assume(not any(request.sections().values()))
    compile(python(request), "spoken", "exec")


def test_there_is_no_python_for_what_only_files_hold() -> None:
    assert python(requests.DoctorRequest()) == ""
    assert python(requests.InterpolateRequest(run="r")) == ""
    assert python(requests.CompleteRequest(run="r", known="top")) == ""


def test_python_trains_and_samples(tmp_path: Path) -> None:
    """It is carried out, and gives what the request asks for."""
    small = requests.TrainRequest(family="gan", data="moons", condition="label", steps=2, run="r", runs=tmp_path,
                                  model={"width": "8", "depth": "1"}, training={"batch_size": "16"})  # fmt: skip
    made: dict[str, Any] = {}
    exec(python(small), made)
    assert (made["model"].config.steps, made["model"].config.model["width"]) == (2, 8)
    exec(python(requests.SampleRequest(run="r", runs=tmp_path, n=3, condition="1", seed=5)), made)
    assert made["result"].equals(made["model"].sample(3, condition=1, seed=5))
