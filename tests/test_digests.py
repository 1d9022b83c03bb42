"""Every byte that a run depends on has a digest: what is damaged is named, and good copies stand in for it."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import stat
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from test_writers import codes, forked

import quintet
from quintet.core.errors import CheckpointError, ConfigError, QuintetError, QuintetWarning
from quintet.data import cache
from quintet.data.dataset import Dataset
from quintet.operations import inspecting
from quintet.operations.requests import InspectRequest
from quintet.runs import digests
from quintet.runs.digests import NAME, TEXTS, Kept
from quintet.runs.folder import Run
from quintet.training import checkpoint

STEPS = 12
ASKED: dict[str, Any] = {"data": "iris", "condition": "label", "preset": "tiny", "steps": STEPS}
TRAINING = {"save_every": 3, "sample_every": 3, "batch_size": 16, "precision": "fp32"}
ALONE = {"CARD.md", ".lock"}
"""Files on which nothing depends; nor does it on samples."""


def trained(root: Path, name: str, **more: Any) -> Run:
    training = TRAINING | more.pop("training", {})
    return quintet.train("vae", run=name, runs=root, config={"training": training}, **{**ASKED, **more}).run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with codecs, conditions, best weights and metrics, and beside it one of another seed."""
    root = tmp_path_factory.mktemp("whole")
    trained(root, "other", seed=1)
    return trained(root, "one")


@pytest.fixture
def run(whole: Run, tmp_path: Path) -> Run:
    """A copy."""
    shutil.copytree(whole.path, tmp_path / "one")
    return Run(tmp_path / "one")


def files_of(run: Run) -> list[Path]:
    """The files that something depends on."""
    there = sorted(path.relative_to(run.path) for path in run.path.rglob("*") if path.is_file())
    return [path for path in there if path.name not in ALONE and path.parts[0] != "samples"]


class Noticed(NamedTuple):
    """What was said of a damage."""

    verified: str
    """What `quintet inspect --verify` complains of; "" if it finds all good."""
    loaded: str
    """What loading refuses or warns of; "" if it says nothing."""
    sampled: Any
    """Rows, if it was loaded."""


def noticed(run: Run) -> Noticed:
    verified = loaded = ""
    sampled = None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            inspecting.inspect(InspectRequest(what=str(run.path), verify=True), lambda _: None)
        except QuintetError as error:
            verified = str(error)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            sampled = quintet.load(run.path).sample(3, seed=1)
        except QuintetError as error:
            loaded = str(error)
        loaded += "".join(str(one.message) for one in said)
    return Noticed(verified, loaded, sampled)


def flips(run: Run, tries: int) -> Iterator[tuple[Path, bytes]]:
    """Single bits in every region of every file: as many in a small file as in a large one."""
    draw, files = random.Random(0), files_of(run)
    each = -(-tries // len(files))
    for name in files:
        content = (run.path / name).read_bytes()
        for region in range(each):
            at = draw.randrange(8 * len(content) * region // each, max(1, 8 * len(content) * (region + 1) // each))
            bad = bytearray(content)
            bad[at // 8] ^= 1 << at % 8
            yield name, bytes(bad)


def others(run: Run, tries: int) -> Iterator[tuple[Path, bytes | None]]:
    """Files that are cut, emptied, removed (None), or those of another run, or of another place of this one."""
    draw, files = random.Random(1), files_of(run)
    for number in range(tries):
        name = files[number % len(files)]
        content, same = (run.path / name).read_bytes(), (run.path.parent / "other" / name).read_bytes()
        like = [one for one in files if one.suffix == name.suffix and one != name] or files
        bad = [content[: draw.randrange(len(content))], b"", None, same, (run.path / draw.choice(like)).read_bytes()]
        found = bad[number // len(files) % len(bad)]
        if found != content:
            yield name, found


def harmless(name: Path, bad: bytes | None, content: bytes) -> bool:
    """Whether a configuration is the same in another layout."""
    try:
        return name.name == "config.yaml" and yaml.safe_load(bad or b"") == yaml.safe_load(content)
    except (yaml.YAMLError, ValueError):
        return False


def missed(run: Run, damages: Iterator[tuple[Path, bytes | None]]) -> tuple[int, list[str]]:
    """(how many damages, those that --verify did not name and those that changed samples without a word)."""
    true, tried, found = quintet.load(run.path).sample(3, seed=1), 0, []
    for name, bad in damages:
        path = run.path / name
        content = path.read_bytes()
        if bad is None:
            path.unlink()
        else:
            path.write_bytes(bad)
        said = noticed(run)
        path.write_bytes(content)
        tried += 1
        if str(path) not in said.verified and not harmless(name, bad, content):
            found.append(f"{name} is not named: {said.verified}")
        if said.sampled is not None and not said.loaded and not said.sampled.equals(true):
            found.append(f"{name} changes samples")
    assert (noticed(run).verified, noticed(run).loaded) == ("", "")
    return tried, found


@pytest.mark.parametrize("tries", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_every_flipped_bit_is_noticed(tries: int, run: Run) -> None:
    tried, found = missed(run, flips(run, tries))
    assert tried >= tries
    assert found == []


@pytest.mark.parametrize("tries", [60, pytest.param(500, marks=pytest.mark.slow)])
def test_every_cut_emptied_lost_or_swapped_file_is_noticed(tries: int, whole: Run, run: Run) -> None:
    shutil.copytree(whole.path.parent / "other", run.path.parent / "other")
    tried, found = missed(run, others(run, tries))
    assert tried >= 0.8 * tries
    assert found == []


def test_the_check_notices_a_run_without_digests(run: Run) -> None:
    """The control: as runs were before, with checkpoints that verify, and nothing else that does."""
    (run.path / NAME).unlink()
    made = json.loads((run.path / "manifest.json").read_text())
    del made["id"]
    (run.path / "manifest.json").write_text(json.dumps(made))
    for folder in (*checkpoint.steps(run.checkpoints), *checkpoint.steps(run.bests)):
        tensors, state = checkpoint.load(folder)
        checkpoint.save(
            folder.parent,
            state["step"],
            tensors,
            {k: v for k, v in state.items() if k not in ("run", "metrics")},
            keep=9,
        )
    _, found = missed(run, flips(run, 60))
    assert len(found) > 10


# -- good copies -------------------------------------------------------------------------------------------------------


def cut(run: Run) -> Run:
    """As if it had been killed behind its last but one checkpoint."""
    shutil.rmtree(checkpoint.steps(run.checkpoints)[-1])
    return run


def weights(run: Run) -> dict[str, torch.Tensor]:
    groups, state = checkpoint.load(checkpoint.steps(run.checkpoints)[-1])
    assert state["step"] == STEPS
    return {f"{group}.{name}": value for group, tensors in groups.items() for name, value in tensors.items()}


def records(run: Run) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "seconds"} for record in run.metrics()]


def same(run: Run, whole: Run) -> None:
    """Weights and records of two runs, bit for bit."""
    mine, theirs = weights(run), weights(whole)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert records(run) == records(whole)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "garbage": lambda content: b"\0{[" * 30,
    "emptied": lambda content: b"",
    "flipped": lambda content: bytes([content[0] ^ 0x40]) + content[1:],
}


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", [*TEXTS, NAME, "codec/conditions.safetensors", "metrics.jsonl"])
def test_a_damaged_run_goes_on_bit_for_bit_and_is_whole_again(name: str, how: str, whole: Run, run: Run) -> None:
    path = cut(run).path / name
    path.write_bytes(DAMAGES[how](path.read_bytes()))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        quintet.resume(run.path)
    assert name == "codec/conditions.safetensors" or any(str(path) in str(one.message) for one in said)
    same(run, whole)
    if name != "config.yaml":
        assert noticed(run)[:2] == ("", "")


def test_what_was_changed_by_hand_is_said_and_not_taken_for_what_was_trained(run: Run) -> None:
    path = run.path / "config.yaml"
    path.write_text(
        path.read_text().replace("  temperature: 1.0", "  temperature: 0.5").replace("width: 16", "width: 24")
    )
    told = r"changed by hand \(model.width: 16 -> 24; sampling.temperature: 1.0 -> 0.5\)"
    with pytest.warns(QuintetWarning, match=told):
        model = quintet.load(run.path)
    assert (model.config.model["width"], model.config.sampling["temperature"]) == (16, 1.0)
    assert "config.yaml" in noticed(run).verified
    with pytest.raises(ConfigError, match="cannot change in a trained model"):
        quintet.resume(run.path)


def test_a_lost_configuration_is_no_lost_run(run: Run) -> None:
    (run.path / "config.yaml").unlink()
    with pytest.warns(QuintetWarning, match=r"config\.yaml"):
        assert len(quintet.load("one", runs=run.path.parent).sample(2)) == 2
    with pytest.raises(CheckpointError, match=r"config\.yaml"):
        inspecting.verified(run)


class Crash(Exception):
    """The power goes."""


@pytest.mark.parametrize("writes", range(5))
def test_a_crash_between_a_text_and_its_digest_is_no_damage(
    writes: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three changes, each of two files; power is lost before the n-th of the writes, and then once more."""
    first, done = run.config(), list[str]()

    def change(steps: int) -> None:
        run.write_config(first.model_copy(update={"steps": steps}))

    def failing(path: Path, text: str) -> None:
        done.append(path.name)
        if len(done) > writes:
            raise Crash
        checkpoint.write_atomic(path, text)

    monkeypatch.setattr(digests, "write_atomic", failing)
    for again in (0, 1):
        done.clear()
        begun = first.steps if not again else run.config().steps
        with suppress(Crash):
            for steps in (100, 200, 300):
                change(steps + again)
                begun = steps + again
        assert run.config().steps in (begun, steps + again)
        assert noticed(run)[:2] == ("", "")


def test_the_check_notices_a_digest_that_is_written_behind_its_text(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the text first, and no word of what stood there."""

    def write(kept: Kept, name: str, text: str) -> None:
        checkpoint.write_atomic(kept.folder / name, text)
        raise Crash

    monkeypatch.setattr(Kept, "write", write)
    with pytest.raises(Crash):
        run.write_config(run.config().model_copy(update={"steps": 100}))
    assert "config.yaml" in noticed(run).verified


def test_digests_of_another_run_are_no_digests(whole: Run, run: Run) -> None:
    shutil.copyfile(whole.path.parent / "other" / NAME, run.path / NAME)
    with pytest.warns(QuintetWarning, match=f"{NAME}: the digests are those of another run"):
        assert run.config().seed == 0


# -- checkpoints that cannot be used -----------------------------------------------------------------------------------


def as_nobody(work: Callable[[], int]) -> int:
    """The exit code of a process that may read only what everybody may."""

    def inside() -> int:
        if os.getuid() == 0:
            os.setuid(65534)
        return work()

    return codes([forked(inside)])[0]


@pytest.mark.parametrize("what", ["step-00000012", "step-00000012/ema.safetensors", "step-00000012/manifest.json"])
def test_a_newest_checkpoint_that_may_not_be_read_is_passed_over(what: str, run: Run) -> None:
    for path in (run.path, *run.path.parents):
        if path.owner() != "root" or path == Path("/tmp"):
            break
        path.chmod(0o755)
    (run.checkpoints / what).chmod(0)

    def work() -> int:
        with pytest.warns(QuintetWarning, match="step-00000012.*\n.*Permission denied"):
            found = run.latest()
        assert found is not None
        return int(found.state["step"])

    assert as_nobody(work) == 9
    (run.checkpoints / what).chmod(0o755)


@pytest.mark.parametrize("error", [5, 116])
def test_a_newest_checkpoint_that_the_disk_does_not_give_is_passed_over(
    error: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = checkpoint.sha256

    def read(path: Path) -> str:
        if path.parent.name == "step-00000012":
            raise OSError(error, os.strerror(error), str(path))
        return sha256(path)

    monkeypatch.setattr(checkpoint, "sha256", read)
    with pytest.warns(QuintetWarning, match=os.strerror(error)):
        assert quintet.load(run.path).run.weights.step <= 9  # type: ignore[union-attr]


def test_checkpoints_that_may_not_be_listed_are_not_none(run: Run) -> None:
    """Else training would begin anew."""
    run.checkpoints.chmod(0)

    def work() -> int:
        with pytest.raises(CheckpointError, match="the folder cannot be read"):
            run.latest()
        return 7

    assert as_nobody(work) == 7
    run.checkpoints.chmod(0o755)


def damage(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_damaged_checkpoint_counts_as_none_of_those_that_are_kept(tmp_path: Path) -> None:
    def save(step: int) -> list[int]:
        checkpoint.save(tmp_path, step, {"model": {"w": torch.ones(3)}}, {"step": step}, keep=2)
        return [int(folder.name[5:]) for folder in checkpoint.steps(tmp_path)]

    save(1), save(2)
    damage(tmp_path / "step-00000002")
    assert save(3) == [1, 2, 3]
    damage(tmp_path / "step-00000001")
    assert save(4) == [3, 4]
    damage(tmp_path / "step-00000003")
    damage(tmp_path / "step-00000004")
    assert save(5) == [3, 4, 5]
    damage(tmp_path / "step-00000005")
    assert save(2) == [2, 3, 4, 5]  # the last good one is not behind them
    checkpoint.verify(tmp_path / "step-00000002")


def test_a_run_that_goes_on_from_an_older_checkpoint_sets_newer_ones_aside(whole: Run, run: Run) -> None:
    newest = checkpoint.steps(run.checkpoints)[-1]
    damage(newest)
    with pytest.warns(QuintetWarning, match=f"kept under the name damaged-{newest.name}"):
        quintet.resume(run.path)
    assert (run.checkpoints / f"damaged-{newest.name}").is_dir()
    same(run, whole)
    assert noticed(run)[:2] == ("", "")


def test_a_checkpoint_of_another_run_is_not_taken_for_one_of_ours(whole: Run, run: Run) -> None:
    newest = checkpoint.steps(run.checkpoints)[-1]
    shutil.rmtree(newest)
    shutil.copytree(whole.path.parent / "other" / "checkpoints" / newest.name, newest)
    shutil.rmtree(run.bests)
    assert str(newest) in noticed(run).verified
    with pytest.warns(QuintetWarning, match="belongs to another run"):
        assert quintet.load(run.path).run.weights.step < STEPS  # type: ignore[union-attr]


# -- beside a process that trains, and behind one that was killed ------------------------------------------------------


def training(root: Path) -> int:
    trained(root, "live", steps=100_000, training={"save_every": 1, "sample_every": 2, "keep": 1})
    return 0


@pytest.mark.parametrize("kills", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_verifying_gives_no_false_alarm(kills: int, tmp_path: Path) -> None:
    """Ten times beside each process, and when it was killed; the next one begins anew or goes on."""
    draw = random.Random(0)
    for number in range(kills):
        pid = forked(training, tmp_path / str(number))
        run, looked = Run(tmp_path / str(number) / "live"), 0
        while looked < 10:
            if (run.path / "config.yaml").is_file():
                inspecting.verified(run)
                looked += 1
        time.sleep(draw.random() / 10)
        os.kill(pid, signal.SIGKILL)
        assert codes([pid]) == [-signal.SIGKILL]
        found = inspecting.verified(run)
        assert found.written_by is None
        shutil.rmtree(run.path)


def test_a_run_that_was_killed_before_its_first_checkpoint_is_not_damaged(run: Run) -> None:
    shutil.rmtree(run.checkpoints)
    shutil.rmtree(run.bests)
    assert inspecting.verified(run).verified == []


# -- who may read a run, and where it ends -----------------------------------------------------------------------------


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_files_may_be_read_as_the_umask_says(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        run = trained(tmp_path, "one", steps=3)
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in run.path.rglob("*") if path.is_file()}
    assert {path.name: found for path, found in modes.items() if found != mode} == {}
    assert len(modes) > 10


PLACES = [
    "checkpoints", "best", "samples", "metrics.jsonl", "checkpoints/step-00000003", "checkpoints/.tmp-step-00000012",
    "checkpoints/.tmp-old-step-00000003", "best/.tmp-step-00000012", "config.yaml", ".config.yaml.tmp", "CARD.md",
    ".CARD.md.tmp", NAME, f".{NAME}.tmp", "lock.json", ".lock.json.tmp", ".lock", "codec", "manifest.json",
    "codec/codec.json", "codec/conditions.safetensors", "checkpoints/damaged-step-00000012",
]  # fmt: skip


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
            for path in sorted(folder.rglob("*")) if path.is_file()}  # fmt: skip


@pytest.mark.filterwarnings("ignore::quintet.core.errors.QuintetWarning")
@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_nothing_is_written_or_removed_through_a_link(place: str, damaged: bool, run: Run, tmp_path: Path) -> None:
    """What was at a place lies elsewhere, and a link leads there; or something else lies there."""
    outside, path = tmp_path / "outside", cut(run).path / place
    outside.mkdir()
    if path.exists():
        path.rename(outside / "it")
    elif Path(place).suffix in (".tmp", ".json", ".lock") or "lock" in place:
        (outside / "it").write_text("precious")
    else:
        (outside / "it").mkdir()
        (outside / "it" / "model.safetensors").write_text("precious")
    if damaged:
        for file in outside.rglob("*"):
            if file.is_file():
                file.write_bytes(file.read_bytes() + b"damaged")
    path.symlink_to(outside / "it")
    before = contents(outside)
    with suppress(QuintetError, OSError):
        quintet.resume(run.path)
    assert contents(outside) == before


def test_the_cache_may_be_read_as_the_umask_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUINTET_CACHE", str(tmp_path))
    items = Dataset("", "table", np.zeros((3, 2), np.float32), {"train": np.arange(3)})

    def write(folder: Path) -> Dataset:
        np.save(folder / "items.npy", items.items)
        return items

    before = os.umask(0o027)
    try:
        cache.cached("key", write, lambda folder: np.load(folder / "items.npy"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o750
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "key").iterdir()} == {0o640}
