"""Damaged files of every format: read, or refused with a reason, and never an error in quintet itself."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
import soundfile
from PIL import Image

from quintet.cli.main import main


def whole_files() -> dict[str, bytes]:
    """A good file of every format, by its suffix."""
    table = pa.table({"a": [float(i) for i in range(60)], "b": ["x\u00e4", "y"] * 30})
    rows = "a,b\n" + "".join(f"{i},x\u00e4{i % 3}\n" for i in range(60))
    out = {"csv": rows.encode(), "tsv": rows.replace(",", "\t").encode(), "csv.gz": gzip.compress(rows.encode())}
    out["jsonl"] = out["json"] = "".join(f'{{"a": {i}, "b": "\u00e4"}}\n' for i in range(60)).encode()
    out["txt"] = ("some words h\u00e4re\n" * 80).encode()
    file = {name: io.BytesIO() for name in ("npz", "npy", "parquet", "feather", "wav", "png", "zip", "tar.gz")}
    np.savez(file["npz"], x=np.arange(120.0).reshape(60, 2), y=np.arange(60) % 3)
    np.save(file["npy"], np.zeros((40, 8, 8), np.uint8))
    pa.parquet.write_table(table, file["parquet"])
    pa.feather.write_feather(table, file["feather"])
    soundfile.write(file["wav"], np.sin(np.arange(4000)), 8000, format="WAV")
    Image.new("RGB", (16, 16), (1, 2, 3)).save(file["png"], "PNG")
    with zipfile.ZipFile(file["zip"], "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", rows)
    with tarfile.open(fileobj=file["tar.gz"], mode="w:gz") as archive:
        member = tarfile.TarInfo("a.csv")
        member.size = len(out["csv"])
        archive.addfile(member, io.BytesIO(out["csv"]))
    return out | {name: buffer.getvalue() for name, buffer in file.items()} | {"arrow": file["feather"].getvalue()}


WHOLE = whole_files()


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Cut short, or with bytes that are flipped, put in or taken out."""
    out, at = bytearray(content), rng.randrange(len(content))
    match rng.randrange(5):
        case 0:
            del out[at:]
        case 1:
            del out[at : at + rng.randint(1, 40)]
        case 2:
            out[at:at] = rng.randbytes(rng.randint(1, 40))
        case 3:
            out[at % 200 % len(out)] = rng.randrange(256)
        case _:
            for _ in range(rng.randint(1, 8)):
                out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out)


@pytest.mark.parametrize("suffix", list(WHOLE))
def test_damaged_files(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QUINTET_CACHE", str(tmp_path / "cache"))
    rng = random.Random(suffix)
    for i in range(20):
        path = tmp_path / f"{i}.{suffix}"
        path.write_bytes(damaged(WHOLE[suffix], rng))
        code = main(["data", str(path), "--json"])
        said = capsys.readouterr().err
        assert code in (0, 2, 3), (i, said)
        assert "Traceback" not in said
