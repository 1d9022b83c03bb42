"""The command line, as a person and as a program use it."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
from safetensors.numpy import load_file

import quintet
from quintet.cli import console
from quintet.cli import main as cli
from quintet.cli.console import Progress, Stopped, columns
from quintet.cli.figures import counted
from quintet.cli.options import extract
from quintet.core.plain import plain
from quintet.core.settings import Settings
from quintet.operations.records import last
from quintet.runs.config import differences

VERBS = ("train", "resume", "sample", "score", "evaluate", "compare", "recommend", "inspect", "runs", "data", "doctor")
TINY = ("--preset", "tiny", "--steps", "3")


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Standard output, which must be one JSON object on one line."""
        assert self.out.count("\n") == 1
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


Call = Callable[..., Result]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trained: Path) -> Call:
    """The program in this process, in an empty folder, with the trained runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUINTET_RUNS", str(trained))

    def run(*words: object) -> Result:
        capsys.readouterr()
        code = cli.main([str(word) for word in words])
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of three steps: `flow` of moons, `gan` of digits given the label, `vae` of digits."""
    root = tmp_path_factory.mktemp("runs")
    for name, source, *more in (("flow", "moons"), ("gan", "digits", "--condition", "label"), ("vae", "digits")):
        assert cli.main(["train", name, "--data", source, *more, *TINY, "--run", name, "--runs", str(root)]) == 0
    return root


def spawn(
    *words: str, cwd: Path, python: tuple[str, ...] = (), env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    env = {**os.environ, **(env or {}), "PYTHONPATH": str(Path(quintet.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *python, "-m", "quintet", *words]
    return subprocess.Popen(command, cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


# -- help ------------------------------------------------------------------------------------------------------------


def test_help_does_not_import_what_is_slow(tmp_path: Path) -> None:
    out, err = spawn("--help", cwd=tmp_path, python=("-X", "importtime")).communicate()
    imported = {line.split("|")[-1].strip() for line in err.splitlines()}
    assert not {name.split(".")[0] for name in imported} & {"torch", "numpy", "pyarrow", "sklearn"}
    assert all(verb in out for verb in VERBS)


@pytest.mark.parametrize("words", [("runs",), ("inspect", "flow"), ("inspect", "vae", "--json"), ("inspect", "{png}")],
                         ids=" ".join)  # fmt: skip
def test_who_only_looks_waits_for_no_torch(words: tuple[str, ...], call: Call, trained: Path, tmp_path: Path) -> None:
    picture = tmp_path / "some.png"
    assert call("sample", "vae", "-n", 4, "-o", picture).code == 0
    words = tuple(word.format(png=picture) for word in words)
    env = {"QUINTET_RUNS": str(trained)}
    out, err = spawn(*words, cwd=tmp_path, python=("-X", "importtime"), env=env).communicate()
    imported = {line.split("|")[-1].strip() for line in err.splitlines()}
    assert "quintet.cli.describe" in imported
    slow = {"torch", "pyarrow", "scipy", "sklearn"}
    assert not {name.split(".")[0] for name in imported} & slow
    assert "safetensors.torch" not in imported
    assert words[-1] != "flow" or "exact (density)" in out


def test_of_a_run_that_says_nothing_of_its_model_the_rest_is_shown(call: Call, trained: Path, tmp_path: Path) -> None:
    whole = call("inspect", "flow").out
    shutil.copytree(trained / "flow", tmp_path / "old")
    manifest = json.loads((tmp_path / "old" / "manifest.json").read_text())
    del manifest["model"], manifest["id"]
    (tmp_path / "old" / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "old" / "digests.json").unlink()
    found = call("inspect", "old").out.splitlines()
    words = [line.split()[0] for line in whole.splitlines() if line]
    assert [line.split()[0] for line in found if line] == [w for w in words if w not in ("parameters", "likelihood")]


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_begins_with_examples(verb: str, call: Call) -> None:
    code, out, err = call(verb, "--help")
    assert (code, err) == (0, "")
    examples = out[: out.index("Usage:")]
    assert 2 <= len(re.findall(rf"^quintet {verb}\b", examples, re.MULTILINE)) <= 4
    assert "--json" in out[out.index("Usage:") :]


def test_version(call: Call) -> None:
    assert call("--version").out.strip() == quintet.__version__


# -- a whole life ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "source", "kind"), [("flow", "moons", "exact"), ("vae", "digits", "bound")])
def test_train_sample_score_evaluate_inspect_resume(family: str, source: str, kind: str, call: Call) -> None:
    found = call("train", family, "--data", source, *TINY, "--run", "mine", "--runs", "here", "--json")
    assert found.code == 0
    assert found.json["name"] == "mine"
    assert found.json["step"] == found.json["steps"] == 3
    assert found.json["loss"] is not None
    assert found.json["quality"] is not None
    assert Path(found.json["run"]) == Path("here/mine")
    assert "Warning" not in found.err
    sampled = call("sample", "here/mine", "-n", 4, "--json").json
    assert all(Path(path).is_file() for path in sampled["files"])
    scored = call("score", "mine", "--runs", "here", "--data", source, "-o", "scores.csv", "--json").json
    rows = list(csv.DictReader(Path("scores.csv").read_text().splitlines()))
    assert list(rows[0]) == ["index", "nats", "stderr", "note"]
    assert len(rows) == scored["likelihood"]["items"]
    assert np.mean([float(row["nats"]) for row in rows]) == pytest.approx(scored["likelihood"]["nats"], rel=1e-6)
    judged = call("evaluate", "mine", "--runs", "here", "--samples", 50, "--json").json
    assert judged["likelihood"]["kind"] == kind
    assert judged["likelihood"].keys() >= {"kind", "nats", "nats_per_dim", "bits_per_dim", "stderr"}
    assert 0 <= judged["metrics"]["auc"] <= 1
    shown = call("inspect", "mine", "--runs", "here", "--json").json
    assert shown["step"] == 3
    assert shown["likelihood"] == kind
    assert shown["parameters"] == found.json["parameters"]
    again = call("resume", "mine", "--runs", "here", "--json")
    assert (again.code, again.json["step"]) == (0, 3)


def test_people_get_words(call: Call) -> None:
    assert "quintet sample" in call("train", "flow", "--data", "moons", *TINY, "--runs", "here").out
    assert "exact (density)" in call("inspect", "flow").out
    assert "AUC" not in call("evaluate", "gan", "--samples", 30).out.splitlines()[0]
    assert "no likelihood: a GAN" in call("evaluate", "gan", "--samples", 30).out
    assert "gan" in call("runs").out


# -- samples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["flow", "gan"])
def test_sample_i_depends_on_the_seed_and_i_alone(run: str, call: Call) -> None:
    given = ("--condition", "3") if run == "gan" else ()
    for name, n, seed in (("three", 3, 1), ("five", 5, 1), ("again", 5, 1), ("other", 5, 2)):
        assert call("sample", run, "-n", n, "--seed", seed, *given, "-o", f"{name}.npz").code == 0
    files = {name: np.load(f"{name}.npz") for name in ("three", "five", "again", "other")}
    for key in files["five"].files:
        # matrix products of another size round differently in the last place
        np.testing.assert_allclose(files["three"][key], files["five"][key][:3], rtol=1e-4, atol=1e-5)
        assert not (files["five"][key] == files["other"][key]).all()
    assert Path("five.npz").read_bytes() == Path("again.npz").read_bytes()


def test_conditions_from_a_file(call: Call) -> None:
    Path("labels.txt").write_text("3\n7\n")
    found = call("sample", "gan", "--conditions", "labels.txt", "-o", "two.npz", "--json").json
    assert found["n"] == 2
    assert call("sample", "gan", "--conditions", "labels.txt", "-n", 5, "-o", "five.npz", "--json").json["n"] == 5
    assert (np.load("two.npz")["images"] == np.load("five.npz")["images"][:2]).all()
    assert call("sample", "gan", "--condition", "12").code == 3
    assert call("sample", "gan", "--conditions", "absent.txt").code == 3
    assert call("sample", "gan", "--conditions", "labels.txt", "--condition", "3").code == 2
    assert call("sample", "flow", "--condition", "3").code == 2


def test_a_file_is_translated_line_by_line(call: Call) -> None:
    """As many lines as the file has, an empty one too; a greedy answer does not depend on the other lines."""
    plain = ("--coding.joint", "false", "--coding.tokens", "characters", "--runs", "mine")
    assert call("train", "autoregressive", "--data", "numbers", "--condition", "chinese", *plain, *TINY,
                "--run", "pair").code == 0  # fmt: skip
    Path("source.txt").write_text("三十五\n\n十万\n\u2028七\n", encoding="utf-8")
    greedy = ("--sampling.temperature", 0, "--runs", "mine")
    found = call("sample", "pair", "--conditions", "source.txt", *greedy, "-o", "out.txt", "--json").json
    assert found["n"] == 4
    lines = Path("out.txt").read_text().removesuffix("\n").split("\n")
    assert len(lines) == 4
    call("sample", "pair", "--condition", "十万", "-n", 1, *greedy, "-o", "one.txt")
    assert Path("one.txt").read_text() == lines[2] + "\n"


def test_a_file_tells_where_it_came_from(call: Call, trained: Path) -> None:
    call("sample", "gan", "-n", 3, "--seed", 9, "-o", "grid.png")
    note = call("inspect", "grid.png", "--json").json["provenance"]
    (folder,) = [path for path in (trained / "gan" / "checkpoints").iterdir() if path.name.endswith("3")]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (note["run"], note["seed"], note["n"], note["step"]) == ("gan", 9, 3, 3)
    assert note["weights"] == manifest["files"]["ema.safetensors"]["sha256"]
    Path("other.csv").write_text("a\n")
    assert call("inspect", "other.csv").code == 3


def test_formats_are_checked_before_the_work(call: Call) -> None:
    assert call("sample", "gan", "-o", "x.csv").code == 2
    assert call("sample", "gan", "-n", 3, "-o", "folder/").code == 0
    assert len(list(Path("folder").glob("*.png"))) == 3
    assert call("sample", "gan", "-n", 0).code == 2


# -- errors and exit codes -------------------------------------------------------------------------------------------

WRONG: list[tuple[int, str, str]] = [
    (2, "trian", "did you mean"),
    (2, "train fow --data moons", "did you mean flow"),
    (2, "train flow --data moon", "did you mean moons"),
    (2, "train flow --data moons --preste tiny", "--preset"),
    (2, "train flow --data moons --preset tinny", "presets"),
    (2, "train flow --data moons --steps many", "--steps"),
    (2, "train flow --data moons --steps 3 --budget 3s", "one of them"),
    (2, "train flow --data moons --budget soon", "duration"),
    (2, "train flow --data moons --model.width", "needs a value"),
    (2, "train flow", "--data SOURCE"),
    (2, "train flow --data moons --resume auto", "--run NAME"),
    (2, "train flow --data moons --run flow", "exists already"),
    (2, "sample flwo", "did you mean flow"),
    (2, "sample flow extra", "extra"),
    (2, "sample flow --training.lr 1", "does not take --training"),
    (2, "score gan --data digits", "a GAN is a sampler without a density"),
    (2, "score flow --data moons --split tset", "splits: train"),
    (2, "evaluate flow --samples 1", "at least 20"),
    (2, "compare nope", "unknown source"),
    (2, "data nope", "unknown source"),
    (3, "train flow --data moons --modle.width 3", "did you mean model"),
    (3, "train flow --data moons --model.widht 3", "did you mean width"),
    (3, "train flow --data moons --training.batch-siz 3", "did you mean batch_size"),
    (3, "train flow --data moons --training.batch_size=-3", "training.batch_size"),
    (3, "train flow --data moons --model.width wide", "model.width"),
    (3, "train flow --data moons --steps 0", "steps"),
    (3, "train flow --data moons --config absent.yaml", "absent.yaml"),
    (3, "sample flow --sampling.temprature 1", "did you mean temperature"),
    (3, "score flow --data digits", "error"),
]


@pytest.mark.parametrize(("code", "line", "words"), WRONG, ids=[line for _, line, _ in WRONG])
def test_errors_have_a_code_and_say_what_to_do(code: int, line: str, words: str, call: Call) -> None:
    found = call(*line.split(), "--json")
    assert found.code == code
    assert found.json.keys() == {"error", "what", "where", "why", "fix"}
    assert "internal" not in found.err
    assert "Traceback" not in found.err
    assert words.lower() in found.err.lower()
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("model: {widht: 3}", 3),
        ("modle: {}", 3),
        ("model: 3", 3),
        ("[1, 2]", 3),
        ("a: [", 3),
        ("training: {lr: -1}", 3),
    ],
)
def test_bad_configuration_files(text: str, code: int, call: Call) -> None:
    Path("c.yaml").write_text(text)
    assert call("train", "flow", "--data", "moons", "--config", "c.yaml", "--dry-run").code == code


def test_what_goes_wrong_outside(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is 4, an interruption 130, a bug of ours 1; none is a traceback."""
    from quintet.fit import fitting

    for error, code in (
        (OSError(28, "No space left on device", "x"), 4),
        (MemoryError(), 4),
        (KeyboardInterrupt(), 130),
        (Stopped(signal.SIGTERM), 143),
        (quintet.QuintetError("x"), 3),
        (ZeroDivisionError("x"), 1),
    ):

        def fail(*_: Any, error: BaseException = error, **__: Any) -> None:
            raise error

        monkeypatch.setattr(fitting, "load", fail)
        found = call("evaluate", "flow", "--json")
        assert found.code == code
        assert found.json["what"]


def test_damage_is_named(call: Call, trained: Path) -> None:
    shutil.copytree(trained / "vae", "runs/vae")
    assert call("inspect", "runs/vae", "--verify").code == 0
    weights = max(Path("runs/vae/checkpoints").iterdir()) / "ema.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    found = call("inspect", "runs/vae", "--verify", "--json")
    assert found.code == 3
    assert found.json["where"] == str(weights)
    older = call("sample", "runs/vae", "-n", 2, "-o", "x.npz", "--json")  # the one before is used, and that is said
    assert older.code == 0
    assert older.json["provenance"]["step"] < 3
    assert "warning" in older.err


# -- configuration ---------------------------------------------------------------------------------------------------


def test_dry_run_writes_nothing_and_shows_everything(call: Call) -> None:
    words = (
        "train",
        "vae",
        "--data",
        "digits",
        "--runs",
        "here",
        "--dry-run",
        "--training.lr",
        "0.5",
        "--model.beta=2",
    )
    found = call(*words, "--json").json
    assert found["config"]["training"]["lr"] == 0.5
    assert found["config"]["model"]["beta"] == 2
    assert found["config"]["model"].keys() >= {"width", "depth", "latent"}
    assert found["config"]["budget"] == 60
    Path("c.yaml").write_text(call(*words).out)
    assert [path.name for path in Path().iterdir()] == ["c.yaml"]
    again = call("train", "--config", "c.yaml", "--seed", 4, "--steps", 9, "--dry-run", "--json").json["config"]
    assert again == {**found["config"], "seed": 4, "steps": 9, "budget": None}


def test_resume_auto_starts_then_goes_on_and_refuses_another_configuration(call: Call) -> None:
    words = ("train", "flow", "--data", "moons", *TINY, "--run", "r", "--runs", "here", "--resume", "auto")
    Path("here/r/codec").mkdir(parents=True)  # a start that was killed at once
    assert call(*words).code == 0
    assert call(*words, "--json").json["step"] == 3
    found = call(*words, "--training.lr", "0.5", "--json")
    assert found.code == 3
    assert "training.lr" in found.json["why"]


def test_options_are_taken_out_of_the_line() -> None:
    words = ["train", "flow", "--model.width", "64", "--training.lr=1e-3", "--training.clip", "null", "--data", "x.y"]
    sections, rest = extract([*words, "--model.on", "-1", "--training.batch-size", "[1, 2]"])
    assert sections == {
        "model": {"width": "64", "on": "-1"},
        "training": {"lr": "1e-3", "clip": None, "batch_size": ["1", "2"]},
    }
    assert rest == ["train", "flow", "--data", "x.y"]


@pytest.mark.parametrize("name", ["no", "02116", "12:30", "2020-01-01", "1e3", "0x1F", "on", "~"])
def test_a_column_may_have_any_name(name: str, call: Call, tmp_path: Path) -> None:
    """Of the words that YAML takes for something else than a text only null needs quotes."""
    rows = "".join(f"{i % 7},{'ab'[i % 2]}\n" for i in range(60))
    (tmp_path / "rows.csv").write_text(f"x,{name}\n{rows}")
    word = f"'{name}'" if name == "~" else name
    (tmp_path / "some.yaml").write_text(f"data: {{target: {word}}}\n")
    for words in (("--data.target", word), ("--config", "some.yaml"), ("--data.condition", word)):
        found = call("train", "autoregressive", "--data", "rows.csv", *words, *TINY, "--dry-run", "--json")
        assert found.code == 0, found
        assert name in (found.json["config"]["data"]["target"], found.json["config"]["data"]["condition"])


def test_a_label_called_no_survives_a_run(call: Call, tmp_path: Path) -> None:
    rows = "".join(f"{i % 7},{'ab'[i % 2]}\n" for i in range(60))
    (tmp_path / "rows.csv").write_text(f"x,no\n{rows}")
    words = ("train", "flow", "--data", "rows.csv", "--data.condition", "no", *TINY, "--run", "r", "--runs", "here")
    assert call(*words).code == 0
    assert call("inspect", "r", "--runs", "here", "--json").json["condition"] == "no"
    assert call("sample", "r", "--runs", "here", "--condition", "b", "-o", "out.csv").code == 0
    again = ("train", "flow", "--config", "here/r/config.yaml", "--dry-run", "--json")
    assert call(*again).json["config"] == call("inspect", "r", "--runs", "here", "--json").json["config"]


@pytest.mark.parametrize(("words", "section", "field", "value"), [
    (("--training.batch_size", "0100"), "training", "batch_size", 100),
    (("--training.batch_size=1_000",), "training", "batch_size", 1000),
    (("--training.lr", "1e-3"), "training", "lr", 0.001),
    (("--training.clip", "null"), "training", "clip", None),
    (("--model.grid", "null"), "model", "grid", None),
    (("--model.grid", "none"), "model", "grid", None),
    (("--training.betas", "[0.5, 0.9]"), "training", "betas", [0.5, 0.9]),
    (("--model.fsq_levels", "[8, 5]"), "model", "fsq_levels", [8, 5]),
])  # fmt: skip
def test_values_of_settings(words: tuple[str, ...], section: str, field: str, value: Any, call: Call) -> None:
    found = call("train", "vae", "--data", "digits", *words, *TINY, "--dry-run", "--json")
    assert found.code == 0, found
    assert found.json["config"][section][field] == value


def test_the_word_none_is_no_value_but_where_it_is_a_text_or_a_choice() -> None:
    class Some(Settings):
        number: int | None = 3
        text: str | None = "some"
        choice: Literal["none", "all"] | None = "all"

    assert Some.model_validate(dict.fromkeys(Some.model_fields, "none")) == Some(
        number=None, text="none", choice="none"
    )
    with pytest.raises(ValueError, match="valid integer"):
        Some.model_validate({"number": "nothing"})


def test_a_whole_configuration_is_read_as_it_was_written(call: Call, tmp_path: Path) -> None:
    words = ("train", "autoregressive", "--data", "iris", "--preset", "tiny", "--dry-run", "--json")
    first = call(*words, "--steps", 7, "--seed", 3).json["config"]
    (tmp_path / "c.yaml").write_text(json.dumps(first))
    again = call("train", "--config", "c.yaml", "--dry-run", "--json")
    assert again.json["config"] == first


def test_differences_of_configurations() -> None:
    assert differences({"a": {"b": 1, "c": 2}, "d": 1}, {"a": {"b": 1, "c": 3}, "e": 1}) == [
        ("a.c", 2, 3),
        ("d", 1, None),
        ("e", None, 1),
    ]


# -- signals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_saves_and_resume_ends_as_if_nothing_had_been(
    sent: signal.Signals, code: int, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("train", "flow", "--data", "moons", "--preset", "tiny", "--steps", 12, "--runs", "here", "--json")
    whole = call(*words, "--run", "whole").json
    report = Progress.report

    def interrupt(self: Progress, record: dict[str, Any]) -> None:
        report(self, record)
        if record["step"] == 5:
            os.kill(os.getpid(), sent)

    monkeypatch.setattr(Progress, "report", interrupt)
    found = call(*words, "--run", "cut")
    assert found.code == code
    assert 5 <= found.json["step"] < 12
    assert found.json["fix"] == "quintet resume here/cut"
    assert "quintet resume here/cut" in found.err
    monkeypatch.setattr(Progress, "report", report)
    resumed = call("resume", "cut", "--runs", "here", "--json")
    assert (resumed.code, resumed.json["step"]) == (0, 12)
    assert resumed.json["loss"] == whole["loss"]
    final = "checkpoints/step-00000012/model.safetensors"
    one, other = load_file(f"here/whole/{final}"), load_file(f"here/cut/{final}")
    assert all((one[key] == other[key]).all() for key in one)


def test_sigterm_from_outside(tmp_path: Path) -> None:
    """In another process, twice: while training, and while that run is resumed."""
    words = ("train", "flow", "--data", "moons", "--preset", "tiny", "--steps", "200000", "--run", "long")
    reached = []
    for line in (words, ("resume", "long")):
        before = (tmp_path / "runs/long/metrics.jsonl").stat().st_size if reached else 0
        process = spawn(*line, cwd=tmp_path)
        deadline = time.monotonic() + 30
        metrics = tmp_path / "runs/long/metrics.jsonl"
        while time.monotonic() < deadline and process.poll() is None:
            if metrics.is_file() and metrics.stat().st_size > 0 and (not reached or metrics.stat().st_size != before):
                break
            time.sleep(0.05)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 143, err
        assert "quintet resume long" in err
        assert out == ""
        reached.append(max(int(path.name[5:]) for path in (tmp_path / "runs/long/checkpoints").iterdir()))
    assert 0 < reached[0] <= reached[1]
    assert not (tmp_path / "runs/long/lock.json").exists()


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    process = spawn("runs", "--json", cwd=tmp_path)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == console.BROKEN_PIPE
    process.stderr.close()


# -- looking ---------------------------------------------------------------------------------------------------------


def test_runs_survive_a_damaged_one(call: Call, trained: Path) -> None:
    shutil.copytree(trained, "here")
    Path("here/vae/config.yaml").write_text("family: [")
    found = call("runs", "--runs", "here", "--json")
    assert "error" not in "".join(str(entry) for entry in found.json["runs"])  # a copy stands in for it, which is said
    assert "its copy in digests.json is used" in found.err
    Path("here/vae/digests.json").unlink()
    found = call("runs", "--runs", "here", "--json").json["runs"]
    assert {entry["name"]: "error" in entry for entry in found} == {"flow": False, "gan": False, "vae": True}
    assert "unreadable" in call("runs", "--runs", "here").out
    assert "no runs" in call("runs", "--runs", "empty").out


def test_data_shows_sources(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUINTET_DATA", "nowhere")
    entries = {entry["name"]: entry for entry in call("data", "--json").json["sources"]}
    assert entries["digits"]["items"] == 1797
    assert "error" in entries["mnist"]
    moons = call("data", "moons", "--json").json
    assert moons["splits"] == {"train": 7000, "validation": 1000, "test": 2000}
    assert [column["name"] for column in moons["columns"]] == ["x0", "x1"]
    assert moons["labels"][0]["values"] == [0, 1]
    assert "range" in call("data", "digits").out


def test_doctor(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    found = call("doctor", "--json")
    assert found.code == 0
    assert found.json["problems"] == []
    assert found.json["versions"].keys() >= {"python", "torch"}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))  # type: ignore[attr-defined]
    ill = call("doctor", "--json")
    assert ill.code == 4
    assert "free" in ill.json["problems"][0]


def test_compare(call: Call) -> None:
    words = ("compare", "moons", "--families", "vae,flow", "--condition", "none", "--steps", 3, "-o", "report.html")
    found = call(*words, "--runs", "here", "--json")
    assert found.code == 0
    assert {model["family"] for model in found.json["models"]} == {"vae", "flow"}
    assert found.json["verdict"]["keeper"]["label"] in {"vae", "flow"}
    assert Path(found.json["report"]).is_file()
    from quintet.cli.figures import compared

    text = compared(found.json)
    assert "keep: " in text
    assert "AUC" in text


# -- the console -----------------------------------------------------------------------------------------------------


def test_progress_says_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("x") as progress:
        progress.report({"step": 1, "steps": 10, "seconds": 0.1, "model": 1.5, "part": 2.0})
        progress.report({"step": 2, "steps": 10, "seconds": 0.2, "model": 1.4})
        progress.said = -1e9
        progress.report({"step": 2, "steps": 10, "seconds": 0.2, "quality": 0.25})
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 2
    assert "step 2/10" in err
    assert "loss 1.4  quality 0.25" in err


def test_progress_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with Progress("x") as progress:
        progress.report({"step": 5, "steps": 10, "seconds": 0.1, "generator": 1.5, "critic": 2.0})
        assert progress.bar.tasks[0].completed == 5
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("name", "value"), [("JPY_PARENT_PID", "12"), ("TERM", "dumb")])
def test_progress_in_a_notebook_and_on_a_terminal_that_cannot_redraw(
    name: str, value: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)
    with Progress("x") as progress:
        progress.report({"step": 5, "steps": 10, "seconds": 0.1, "generator": 1.5, "critic": 2.0})
        assert progress.bar is None
    assert capsys.readouterr().err == "x: step 5/10  loss 1.5\n"


def test_plain_json() -> None:
    value = {"a": float("nan"), "b": np.float32(1.5), "c": (np.arange(2), Path("x")), 4: {"d": True, "e": None}}
    assert plain(value) == {"a": None, "b": 1.5, "c": [[0, 1], "x"], "4": {"d": True, "e": None}}


def test_last_figures() -> None:
    records = [
        {"step": 1, "steps": 9, "critic": 1.0, "generator": 2.0},
        {"step": 2, "steps": 9, "quality": 0.1, "copies": 0.0},
    ]
    assert last(records) | {"seconds": 0} == {
        "step": 2,
        "steps": 9,
        "seconds": 0,
        "loss": 2.0,
        "losses": {"critic": 1.0, "generator": 2.0},
        "quality": 0.1,
        "held_out": None,
    }
    assert columns([("a", 1), ("bbb", 22)], ("x", "y")) == "x    y\na    1\nbbb  22"


# -- pipes and shells ------------------------------------------------------------------------------------------------


def test_items_are_called_by_their_kinds_own_word() -> None:
    assert [counted(8, "series"), counted(1, "image"), counted(1200, "text")] == ["8 windows", "1 image", "1,200 texts"]


def piped(words: list[str], content: bytes, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, "PYTHONPATH": str(Path(quintet.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "quintet", *words]
    return subprocess.run(command, cwd=cwd, env=env, input=content, capture_output=True, timeout=120, check=False)


def test_a_pipe_brings_data_and_takes_items(tmp_path: Path) -> None:
    table = "a,b\n" + "".join(f"{i}.5,x{i % 3}\n" for i in range(200))
    made = piped(["train", "autoregressive", "--data", "-", "--run", "piped", *TINY], table.encode(), tmp_path)
    assert made.returncode == 0, made.stderr
    (kept,) = (tmp_path / "runs" / "stdin").iterdir()
    assert kept.suffix == ".csv"
    assert kept.read_text() == table  # a run reads its data again when it is resumed or evaluated
    out = piped(["sample", "piped", "-n", "3", "-o", "-"], b"", tmp_path)
    lines = out.stdout.decode().splitlines()
    assert out.returncode == 0
    assert lines[0] == "a,b"
    assert len(lines) == 4
    assert b"3 rows" in out.stderr
    scores = piped(["score", "piped", "--data", "-", "-o", "-"], b"a,b\n1.5,x0\n2.5,x1\n", tmp_path)
    assert [line.split(",")[0] for line in scores.stdout.decode().splitlines()] == ["index", "0", "1"]
    nothing = piped(["score", "piped", "--data", "-"], b"", tmp_path)
    assert nothing.returncode == 3
    assert b"standard input is empty" in nothing.stderr


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (b"a,b\n1,2\n", ".csv"),
        (b"a;b\n1,5;2\n", ".csv"),
        (b'{"a": 1}\n', ".jsonl"),
        (b"Dear all,\nthis is a letter.\n", ".txt"),
        (b"one\ntwo\n", ".txt"),
        (b"PAR1....", ".parquet"),
        (b"\xff\xff\xff\xff\x10\0\0\0", ".arrow"),
        (b"\x93NUMPY\x01", ".npy"),
        (b"RIFF0000WAVEfmt ", ".wav"),
        (b"\x89PNG\r\n", ".png"),
    ],
)
def test_the_kind_of_standard_input_is_read_off_its_content(content: bytes, suffix: str) -> None:
    from quintet.cli.standard_input import suffix_of

    assert suffix_of(content) == suffix


def test_standard_output_is_for_one_thing(call: Call) -> None:
    assert "cannot be used here" in call("sample", "flow", "-o", "-", "--json").err
    assert call("compare", "moons", "-o", "-").code == 2


def test_hints_name_a_run_so_that_it_is_found(call: Call, tmp_path: Path) -> None:
    made = call("train", "flow", "--data", "moons", *TINY, "--run", "here", "--runs", tmp_path / "other")
    hint = re.search(r"next: quintet sample (\S+),", made.out)
    assert hint is not None
    assert call("sample", hint[1], "-n", 2, "-o", tmp_path / "two.csv").code == 0


def test_conditions_stand_beside_samples(call: Call, tmp_path: Path) -> None:
    rows = "".join(f"{k},{k * 100 + i % 7}\n" for i in range(120) for k in (1, 2))
    (tmp_path / "t.csv").write_text("kind,size\n" + rows)
    words = ("--data", "t.csv", "--target", "size", "--condition", "kind", *TINY)
    assert call("train", "autoregressive", *words, "--run", "sizes", "--runs", tmp_path).code == 0
    run = tmp_path / "sizes"
    assert call("sample", run, "--condition", 2, "-n", 4, "-o", "asked.csv").code == 0
    assert [row["kind"] for row in csv.DictReader((tmp_path / "asked.csv").open())] == ["2"] * 4
    assert call("sample", run, "-n", 40, "-o", "drawn.csv").code == 0
    assert {row["kind"] for row in csv.DictReader((tmp_path / "drawn.csv").open())} == {"1", "2"}


def test_help_of_a_run_lists_its_sampling_options(call: Call) -> None:
    assert "--sampling.temperature" not in call("sample", "--help").out
    assert "--sampling.temperature" in call("sample", "flow", "--help").out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_verbs_and_options(call: Call, shell: str) -> None:
    script = call("completion", shell).out
    assert "interpolate" in script
    assert "n-best" in script


def test_doctor_names_extras(call: Call) -> None:
    found = call("doctor", "--json").json["extras"]
    assert set(found) >= {"text", "hf"}


def test_progress_fits_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Progress("a-file-with-a-name.csv autoregressive") as progress:
        progress.report({"step": 1, "steps": 60, "model": 2.0})
        progress.report({"step": 46, "steps": 60, "model": 0.2995, "held_out": 0.9363, "quality": 0.05658})
        progress.bar.refresh()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sys.stderr.getvalue())  # type: ignore[attr-defined]
    lines = [line for line in re.split(r"[\r\n]", shown) if line.strip()]
    assert lines
    assert all("step" in line and len(line) <= 80 for line in lines[-2:])


def test_what_a_verb_does_not_know_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "flow", "my pictures"]) == 2
    told = capsys.readouterr().err
    assert "quintet train does not know what 'my pictures' is" in told
    assert "fix: quintet train flow --data 'my pictures'" in told
    assert cli.main(["sample", "first", "second"]) == 2
    told = capsys.readouterr().err
    assert "quintet sample does not know what 'second' is" in told
    assert "fix: quintet sample --help" in told


def test_evaluate_draws_samples_as_it_is_told(call: Call, trained: Path) -> None:
    """At temperature 0 a flow makes the same point again and again, but for its last digits; the report says so."""
    own = call("evaluate", "flow", "--samples", 40, "--json").json
    told = call("evaluate", "flow", "--samples", 40, "--sampling.temperature", 0, "--json").json
    assert told["metrics"]["diversity"] < 0.5 * own["metrics"]["diversity"]
    assert "sampling" not in own["recipe"]
    assert told["recipe"]["sampling"] == {"temperature": 0.0}
    assert "--sampling.temperature 0" in (trained / "flow" / "report.html").read_text()
