"""The cache of data: never another's items, never damaged ones, and no crash where the disk is full."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quintet.core.errors import EnvironmentFault, QuintetWarning
from quintet.data import cache
from quintet.data.mapped import allocated
from quintet.sources.load import load_checked, load_source


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of small pictures, all of which go through the cache."""
    monkeypatch.setenv("QUINTET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "SMALL", 0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(20):
        Image.new("L", (8, 8), 10 * i).save(folder / f"{i:02d}.bmp")
    return folder


def kept(tmp_path: Path) -> Path:
    (folder,) = (tmp_path / "cache").iterdir()
    return folder


def test_what_is_kept_is_read_again(source: Path, tmp_path: Path) -> None:
    first = load_checked(str(source))
    again = load_checked(str(source))
    assert again.kept == kept(tmp_path)
    assert isinstance(again.items, np.memmap)
    assert again.fingerprint() == first.fingerprint()


@pytest.mark.parametrize("archive", [False, True])
def test_a_source_that_changed_within_its_size_and_time_is_read_again(
    archive: bool, source: Path, tmp_path: Path
) -> None:
    place = source / "03.bmp"
    if archive:
        place = Path(shutil.make_archive(str(tmp_path / "pictures"), "tar", source))
    before, facts = load_source(str(place if archive else source)), place.stat()
    content = place.read_bytes()
    at = content.index(bytes([30]) * 64)
    with place.open("r+b") as file:  # the same file, as large as before
        file.seek(at)
        file.write(bytes([31]) * 64)
    os.utime(place, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert (place.stat().st_size, place.stat().st_mtime_ns) == (facts.st_size, facts.st_mtime_ns)
    after = load_source(str(place if archive else source))
    assert after.fingerprint() != before.fingerprint()
    assert 31 in after.items
    assert 31 not in before.items


@pytest.mark.parametrize("how", ["a bit of the items", "cut", "a bit of the facts", "the digest", "no facts"])
def test_what_is_damaged_is_read_anew(how: str, source: Path, tmp_path: Path) -> None:
    true = load_checked(str(source)).fingerprint()
    items, meta = kept(tmp_path) / "items.npy", kept(tmp_path) / "meta.json"
    if how == "a bit of the items":
        content = bytearray(items.read_bytes())
        content[-1] ^= 1
        items.write_bytes(content)
        with pytest.warns(QuintetWarning, match="the cached copy of .* is damaged, so the source is read again"):
            found = load_checked(str(source))
    else:
        if how == "cut":
            os.truncate(items, items.stat().st_size - 64)
        elif how == "no facts":
            meta.write_text("[]")
        else:
            old, new = (true[:8], "0" * 8) if how == "the digest" else ('"modality": "image"', '"modality": "imagf"')
            assert old in meta.read_text()
            meta.write_text(meta.read_text().replace(old, new))
        found = load_source(str(source))
    assert found.fingerprint() == true
    assert found.items.tobytes() == load_checked(str(source)).items.tobytes()
    assert cache.intact(kept(tmp_path))


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB in memory."""
    folder = tmp_path / "small"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)]
    if not shutil.which("mount") or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("nobody may mount a file system here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


WRITE = """
import sys
import numpy as np
from pathlib import Path
from quintet.data.mapped import allocated
make = allocated if sys.argv[2] == "ours" else lambda path, dtype, shape: np.lib.format.open_memmap(
    path, mode="w+", dtype=dtype, shape=shape)
make(Path(sys.argv[1]), np.float32, (2**20,))[:] = 1
"""


def test_a_full_disk_is_an_error_and_no_crash(full: Path) -> None:
    with pytest.raises(OSError, match="No space left on device"):
        allocated(full / "a.npy", np.float32, (2**20,))
    (full / "a.npy").unlink()
    control = [sys.executable, "-c", WRITE, str(full / "b.npy"), "numpy"]
    assert subprocess.run(control, capture_output=True).returncode == -7  # SIGBUS


def test_a_cache_on_a_full_disk_is_the_machines_fault(
    full: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUINTET_CACHE", str(full))
    for i in range(100):
        Image.new("L", (64, 64), i).save(source / f"{i:02d}.bmp")
    with pytest.raises(EnvironmentFault, match="the data cannot be put into the cache") as caught:
        load_source(str(source))
    assert "No space left on device" in caught.value.why
    assert list(full.iterdir()) == []
    monkeypatch.setattr(cache, "SMALL", 2**26)
    assert len(load_source(str(source)).items) == 100


def test_the_facts_name_every_file(source: Path, tmp_path: Path) -> None:
    load_checked(str(source))
    meta, _ = json.loads((kept(tmp_path) / "meta.json").read_text())
    assert meta["files"].keys() == {path.name for path in kept(tmp_path).iterdir()} - {"meta.json"}
