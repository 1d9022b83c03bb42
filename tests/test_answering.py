"""What a loaded model answers in memory: the same as from files, in the same words, told batch by batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import torch

import quintet
from quintet.core import listening
from quintet.core.errors import QuintetError, Unsupported, UsageError
from quintet.core.listening import Listener
from quintet.model.fitted import Fitted
from quintet.model.inputs import Found
from quintet.operations import requests
from quintet.operations.answering import VERBS, answer
from quintet.operations.events import Event, Note, Step
from quintet.operations.latents import encode, interpolate, reconstruct
from quintet.operations.requests import Request
from quintet.operations.sampling import sample
from quintet.operations.scoring import score


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("answering")
    for family in ("flow", "gan", "diffusion"):
        quintet.train(family, data="moons", steps=2, preset="tiny", run=family, runs=root)
    quintet.train("autoregressive", data="numbers", condition="chinese", steps=2, preset="tiny", run="zh-en",
                  runs=root, config={"model": {"width": 16}})  # fmt: skip
    quintet.train("autoregressive", data="digits", target="label", condition="image", steps=2, preset="tiny",
                  run="labels", runs=root)  # fmt: skip
    return root


def fitted(runs: Path, name: str) -> Fitted:
    return quintet.load(name, runs=runs).fitted


def rows(n: int) -> pa.Table:
    return pa.table({name: np.linspace(-1, 1, n) for name in ("x0", "x1")})


def of_file(path: Path) -> pa.Table:
    return pyarrow.csv.read_csv(path)


def test_apps_can_name_no_file_of_this_machine() -> None:
    """None of these requests says where to read or write: what is local has requests of its own."""
    assert set(VERBS) == {"sample", "score", "rank", "complete", "classify", "translate", "reconstruct", "interpolate",
                          "encode", "evaluate"}  # fmt: skip
    for verb in VERBS.values():
        assert not {"run", "runs", "data", "output", "conditions", "mask"} & set(verb.request.model_fields)
        assert not [name for name, field in verb.request.model_fields.items() if "Path" in str(field.annotation)]
    assert "Path" in str(requests.SampleRequest.model_fields["conditions"].annotation)  # as it would be seen


def test_a_loaded_model_answers_what_stands_in_files(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, source = rows(6), tmp_path / "items.csv"
    pyarrow.csv.write_csv(items, source)
    monkeypatch.chdir(tmp_path / "..")
    before, flow, found = sorted(Path().iterdir()), fitted(runs, "flow"), Found(items)
    local = {"run": "flow", "runs": runs, "data": str(source)}

    def both(verb: str, run: Any, asked: type[Request], **given: Any) -> tuple[Any, pa.Table]:
        path = tmp_path / f"{verb}.csv"
        run(asked(**local, **given, output=str(path)), lambda event: None)
        model, has = flow, {name: value for name, value in given.items() if name in VERBS[verb].request.model_fields}
        return answer(verb, model, VERBS[verb].request(**has), found, lambda event: None), of_file(path)

    made, table = both("score", score, requests.ScoreRequest, seed=3)
    assert np.allclose(made.items["nats"], table["nats"])
    assert made.facts["likelihood"]["kind"] == "exact"
    made, table = both("rank", score, requests.ScoreRequest, rank=True)
    assert made.items["index"].to_pylist() == table["index"].to_pylist()
    made, table = both("encode", encode, requests.EncodeRequest)
    assert np.allclose(made.items["z0"], table["z0"])
    made, table = both("reconstruct", reconstruct, requests.ReconstructRequest, beside=True)
    assert np.allclose(made.items["x0"], table["x0"], atol=1e-6)
    whole = Found(pa.table({"x0": [1, 2], "x1": [0, 1]}))  # as JSON writes decimals that are whole
    made = answer("reconstruct", flow, VERBS["reconstruct"].request(beside=True), whole, print)
    assert made.items["x0"].to_pylist()[::2] == [1.0, 2.0]
    made, table = both("interpolate", interpolate, requests.InterpolateRequest, steps=3, n=3)
    assert len(made.items) == 9
    assert np.allclose(made.items["x0"], table["x0"], atol=1e-6)
    assert (made.note["weights"], made.note["data"]) == (flow.run.used().sha256, None)  # type: ignore[union-attr]
    del local["data"]
    local["run"] = "diffusion"
    flow = fitted(runs, "diffusion")
    made, table = both("sample", sample, requests.SampleRequest, n=3, seed=5, sampling={"steps": 2})
    assert np.allclose(made.items["x0"], table["x0"], atol=1e-6)
    holes = pa.table({"x0": [0.5, None], "x1": [None, 0.25]})
    filled = answer("complete", flow, requests.Complete(draws=2, sampling={"steps": 2}), Found(holes), print)
    assert filled.items["draw"].to_pylist() == [1, 1, 2, 2]
    assert filled.items["x0"][0].as_py() == 0.5
    assert sorted(Path().iterdir()) == before


def test_steps_are_told_to_who_follows_them(runs: Path) -> None:
    model, request = fitted(runs, "diffusion"), requests.Sample(n=1, sampling={"steps": 2})
    told = list[Any]()
    answer("sample", model, request, Found(None), told.append)
    assert Step(2, 2) in told
    told.clear()
    answer("sample", model, request, Found(None), told.append, steps=False)
    assert not told


def test_apps_and_files_are_refused_in_the_same_words(runs: Path) -> None:
    def words(work: Any) -> str:
        with pytest.raises(QuintetError) as error:
            work()
        return str(error.value)

    ear, gan, flow = (lambda event: None), fitted(runs, "gan"), fitted(runs, "flow")
    told = words(lambda: answer("score", gan, requests.Score(), Found(rows(2)), ear))
    assert told == words(lambda: score(requests.ScoreRequest(run="gan", runs=runs), ear))
    assert "why:" in told
    prompt = {"prompt": "x"}
    told = words(lambda: answer("sample", fitted(runs, "diffusion"), requests.Sample(**prompt), Found(None), ear))
    assert told == words(lambda: sample(requests.SampleRequest(run="diffusion", runs=runs, **prompt), ear))
    field = {"sampling": {"stepz": 2}}
    told = words(lambda: answer("sample", flow, requests.Sample(**field), Found(None), ear))
    assert told == words(lambda: sample(requests.SampleRequest(run="flow", runs=runs, **field), ear))
    given = {"condition": "1"}
    told = words(lambda: answer("sample", flow, requests.Sample(**given), Found(None), ear))
    assert told == words(lambda: sample(requests.SampleRequest(run="flow", runs=runs, **given), ear))
    with pytest.raises(Unsupported, match="does not translate"):
        answer("translate", flow, requests.Translate(), Found(None), ear)
    with pytest.raises(Unsupported, match="does not classify"):
        answer("classify", flow, requests.Classify(), Found(None, ["1"]), ear)


def test_a_mask_by_its_name_is_no_file_for_apps(runs: Path, tmp_path: Path) -> None:
    quintet.train("vae", data="digits", steps=2, preset="tiny", run="pictures", runs=tmp_path)
    model, items = fitted(tmp_path, "pictures"), np.zeros((2, 8, 8, 1), np.uint8)
    for known in (str(tmp_path / "mask.png"), "/etc/passwd"):
        with pytest.raises(UsageError, match="names no such part"):
            answer("complete", model, requests.Complete(known=known), Found(items), print)
    mask = np.ones((8, 8), bool)
    made = answer("complete", model, requests.Complete(), Found(items, known=mask), lambda event: None)
    assert (made.items == items).all()


def test_translations_and_labels(runs: Path) -> None:
    model = fitted(runs, "zh-en")
    ask = requests.Translate(length=4)
    made = answer("translate", model, ask, Found(None, ["一", "二", "一"]), lambda event: None)
    assert len(made.items) == 3
    assert made.items[0] == made.items[2]  # the likeliest, and no draw
    assert made.facts["n"] == 3
    best = answer("translate", model, requests.Translate(n_best=2, length=4, condition="一"), Found(None), print)
    assert best.items["rank"].to_pylist() == [1, 2]
    model = fitted(runs, "labels")
    made = answer("classify", model, requests.Classify(), Found(None, np.zeros((3, 8, 8, 1), np.uint8)), print)
    assert made.items.num_rows == 3
    assert {"predicted", "p_0", "p_9"} <= set(made.items.column_names)


# -- a step for each batch ---------------------------------------------------------------------------------------------

BATCHED = ["score", "rank", "encode", "reconstruct", "interpolate", "evaluate"]


def steps_of(runs: Path, verb: str) -> list[Event]:
    """What is told of a verb's work on 300 rows, which are two batches."""
    events: list[Event] = []
    asked = {"samples": 20, "budget": "1s"} if verb == "evaluate" else {}
    answer(verb, fitted(runs, "flow"), VERBS[verb].request(**asked), Found(rows(300)), events.append)
    return [event for event in events if isinstance(event, Step)]


class Gone(Exception):
    """The client has left."""


@pytest.mark.parametrize("verb", BATCHED)
def test_a_listener_that_raises_ends_the_work_within_a_batch(
    runs: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Event] = []

    def leave(event: Event) -> None:
        if isinstance(event, Step):
            heard.append(event)
            raise Gone

    asked = {"samples": 20, "budget": "1s"} if verb == "evaluate" else {}
    with pytest.raises(Gone):
        answer(verb, fitted(runs, "flow"), VERBS[verb].request(**asked), Found(rows(300)), leave)
    assert len(heard) == 1
    if verb in ("score", "encode"):
        assert steps_of(runs, verb) == [Step(1, 2), Step(2, 2)]
        monkeypatch.setattr(listening.Listener, "step", property(lambda one: lambda step, steps: None))
        assert steps_of(runs, verb) == []  # as it would be seen if no batch were told


def test_batches_cover_all_rows_once() -> None:
    told: list[tuple[int, int]] = []
    with listening.listening(Listener(lambda kind, text: None, lambda *step: told.append(step))):
        parts = [torch.arange(7)[some] for some in listening.batches(7, 3)]
        assert list(listening.batches(0, 3)) == []
    assert [part.tolist() for part in parts] == [[0, 1, 2], [3, 4, 5], [6]]
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert isinstance(Note("a"), Note)
