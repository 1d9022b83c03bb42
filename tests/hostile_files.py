"""Broken and hostile files of every format."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hostile_archives import Files, archives, bomb, later, npy, png, tables, zipped

# -- good files, and damage --------------------------------------------------------------------------------------------


def good_files() -> dict[str, bytes]:
    """A good file of every format, by its suffix."""
    import pyarrow as pa
    import pyarrow.feather
    import pyarrow.parquet
    import soundfile
    from PIL import Image

    table = pa.table({"a": [float(i) for i in range(60)], "b": ["x\u00e4", "y"] * 30, "d": pa.array(["u", "v"] * 30)
                      .dictionary_encode()})  # fmt: skip
    rows = "a,b\n" + "".join(f"{i},x\u00e4{i % 3}\n" for i in range(60))
    out = {"csv": rows.encode(), "tsv": rows.replace(",", "\t").encode(), "csv.gz": gzip.compress(rows.encode()),
           "csv.bz2": bz2.compress(rows.encode()), "csv.xz": lzma.compress(rows.encode())}  # fmt: skip
    out["jsonl"] = "".join(f'{{"a": {i}, "b": "\u00e4"}}\n' for i in range(60)).encode()
    out["json"] = json.dumps([{"a": i, "b": "\u00e4"} for i in range(60)]).encode()
    out["txt"] = ("some words h\u00e4re\n" * 80).encode()
    names = "npz npy parquet feather arrow wav flac ogg png jpg webp gif tif bmp zip tar.gz tar xlsx"
    file = {name: io.BytesIO() for name in names.split()}
    np.savez_compressed(file["npz"], x=np.arange(120.0).reshape(60, 2), y=np.arange(60) % 3)
    np.save(file["npy"], np.zeros((40, 8, 8), np.uint8))
    pa.parquet.write_table(table, file["parquet"])
    pa.feather.write_feather(table, file["feather"])
    pa.feather.write_feather(table, file["arrow"], compression="uncompressed")
    sound = 0.5 * np.sin(np.arange(4000) / 9)
    for name in ("wav", "flac", "ogg"):
        soundfile.write(file[name], sound, 8000, format=name.upper())
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 24, 3), np.uint8))
    for name, kind in {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "gif": "GIF", "tif": "TIFF", "bmp": "BMP"}.items():
        picture.save(file[name], kind)
    with zipfile.ZipFile(file["zip"], "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", rows)
    for name, mode in (("tar.gz", "w:gz"), ("tar", "w")):
        with tarfile.open(fileobj=file[name], mode=mode) as archive:  # type: ignore[call-overload]
            member = tarfile.TarInfo("a.csv")
            member.size = len(out["csv"])
            archive.addfile(member, io.BytesIO(out["csv"]))
    try:
        import openpyxl
    except ImportError:
        del file["xlsx"]
    else:
        book = openpyxl.Workbook()
        for line in rows.splitlines():
            book.active.append(line.split(","))
        book.save(file["xlsx"])
    return out | {name: buffer.getvalue() for name, buffer in file.items()}


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Cut short, emptied, or with bits or bytes that are flipped, put in, doubled or taken out."""
    out, at = bytearray(content), rng.randrange(len(content))
    match rng.randrange(8):
        case 0:
            del out[at:]
        case 1:
            del out[at : at + rng.randint(1, 40)]
        case 2:
            out[at:at] = rng.randbytes(rng.randint(1, 40))
        case 3:
            out[at % 200 % len(out)] = rng.randrange(256)
        case 4:
            out[at % 100 % len(out)] ^= 1 << rng.randrange(8)
        case 5:
            at -= at % 4
            out[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\0\0\0\x80"])
        case 6:
            out[at:] = out[: len(out) - at]
        case _:
            for _ in range(rng.randint(1, 8)):
                out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out)


def damaged_files(times: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """(name, content) of damaged files of every format, and of good ones under the suffix of another."""
    whole, rng = good_files(), random.Random(seed)
    for suffix, content in whole.items():
        for number in range(times):
            yield f"{number}.{suffix}", damaged(content, rng)
        yield f"other.{rng.choice([*whole])}", content


def arrays() -> Files:
    head = "{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}".format
    claims = [("|u1", "(1000000000, 1)"), ("<f8", "(4000000000, 4000000000)"), ("<f8", "(10,) * 9"), ("|O", "(3,)"),
              ("<f8", "(-1, 3)"), ("<f8", "(0, 3)"), ("<f8", "()"), ("<U1000000000", "(3,)"), ("<M8[s]", "(3,)"),
              ("<f8", "(" * 90), ("|V1000000000", "(9,)"), ("<f8", "(1e9,)"), ("|S0", "(1000000000,)")]  # fmt: skip
    files: Files = {f"claim{i}.npy": npy(head(*claim), bytes(800)) for i, claim in enumerate(claims)}
    files |= {f"claim{i}.npz": zipped({"x.npy": npy(head(*claim), bytes(800))}) for i, claim in enumerate(claims)}
    whole = np.zeros((12, 8, 8, 3), np.float32)
    files |= {
        "bomb.npz": later(bomb_of_arrays),
        "long.npy": npy(head("<f8", "(3,)") + " " * 2**24, bytes(24), 2),
        "lie.npy": npy(head("<f8", "(3,)"), bytes(24), 2)[:8] + b"\xff\xff\xff\xff",
        "version.npy": b"\x93NUMPY\x09\x09" + bytes(200),
        "empty.npy": b"",
        "nan.npy": packed(np.full((60, 3), np.nan)),
        "inf.npy": packed(np.full((60, 3), np.inf)),
        "float.npy": packed(whole + 1e30),
        "half.npy": packed(whole.astype(np.float16)),
        "complex.npy": packed(np.zeros((60, 3), np.complex128)),
        "dims.npy": packed(np.zeros((2,) * 12)),
        "wide.npy": packed(np.zeros((3, 300_000), np.float32)),
        "zero.npy": packed(np.zeros((10**9, 0), np.float32)),
        "tall.npy": packed(np.zeros((2, 1, 10**6), np.uint8)),
        "bomb.npy.gz": later(bomb, gzip.compress, npy(head("|u1", "(1000000000, 2)"))),
    }
    return files


def bomb_of_arrays() -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, x=np.zeros(2**27, np.uint8))
    return out.getvalue()


def packed(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def pictures() -> Files:
    from PIL import Image

    def saved(image: Image.Image, kind: str, **more: Any) -> bytes:
        out = io.BytesIO()
        image.save(out, kind, **more)
        return out.getvalue()

    small = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 30, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    palette = struct.pack(">I", 3) + b"PLTEabc" + struct.pack(">I", zlib.crc32(b"PLTEabc"))
    text = b"k\0\0" + zlib.compress(b"x" * 2**25)
    ztxt = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    frames = [Image.new("P", (8, 8), i) for i in range(200)]
    return {
        "pixels.png": later(png, 60_000, 1_000, 1, 0),
        "sixteen.png": later(png, 7000, 7000, 16, 0),
        "sixteen2.png": later(png, 7000, 7000, 16, 6),
        "large.png": later(png, 7000, 7000, 8, 6),
        "palette.png": later(png, 7000, 7000, 8, 3, palette),
        "text.png": later(png, 24, 24, 8, 0, ztxt),
        "texts.png": later(png, 24, 24, 8, 0, ztxt * 8),
        "header.png": png(24, 24, 8, 0)[:40],
        "sixteen3.png": png(24, 24, 16, 0),
        "grey.png": saved(small.convert("L"), "PNG"),
        "alpha.png": saved(small.convert("RGBA"), "PNG"),
        "la.png": saved(small.convert("LA"), "PNG"),
        "one.png": saved(small.convert("1"), "PNG"),
        "cmyk.jpg": saved(small.convert("CMYK"), "JPEG"),
        "rotated.jpg": saved(small, "JPEG", exif=exif),
        "large.jpg": later(lambda **more: saved(Image.new("CMYK", (7000, 7000)), "JPEG", **more)),
        "large.tif": later(lambda **more: saved(Image.new("F", (7000, 7000)), "TIFF", **more)),
        "large2.tif": later(lambda **more: saved(Image.new("I", (7000, 7000)), "TIFF", **more), compression="tiff_lzw"),
        "nan.tif": saved(Image.fromarray(np.full((24, 24), np.nan, np.float32)), "TIFF"),
        "large.webp": later(lambda **more: saved(Image.new("RGB", (7000, 7000)), "WEBP", **more), lossless=True),
        "animated.gif": saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "frames.gif": later(many_frames, 100_000),
        "animated.webp": saved(small, "WEBP", save_all=True, append_images=[small.rotate(90)] * 3),
        "animated.png": saved(small, "PNG", save_all=True, append_images=[small.rotate(90)] * 3),
        "pages.tif": saved(small, "TIFF", save_all=True, append_images=[small] * 3),
        "empty.png": b"",
        "text.jpg": b"this is no picture\n" * 100,
        "huge.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 2**31, 0, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0),
        "huge.tif": b"II*\0\x08\0\0\0" + b"\xff\xff" + b"\xff" * 100,
        "loop.tif": b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 256, 4, 1, 24, 8),
    }  # fmt: skip


def many_frames(count: int) -> bytes:
    """A GIF of so many frames of one pixel."""
    frame = b"\x2c" + struct.pack("<4HB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<2H3B", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + frame * count + b";"


def texts() -> Files:
    def line(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(0)
            for _ in range(64):
                file.write(b"words " * (2**24 // 6))

    some = ("some words h\u00e4re\n" * 80).encode()
    return {
        "line.txt": line,
        "bomb.txt.gz": later(bomb, gzip.compress, b"words "),
        "zeros.txt": bytes(10_000),
        "nul.txt": some + b"\0" + some,
        "utf8.txt": some + b"\xff\xfe" + some,
        "latin.txt": "w\u00f6rter\n".encode("latin-1") * 80,
        "cut.txt": some * 3 + b"\xc3",
        "utf16.txt": ("w\u00f6rter\n" * 80).encode("utf-16"),
        "utf16cut.txt": ("w\u00f6rter\n" * 80).encode("utf-16")[:-1],
        "surrogate.txt": b"\xed\xa0\x80 words\n" * 80,
        "empty.txt": b"",
        "blank.txt": b" \n\t\n" * 100,
        "one.txt": b"x",
        "escape.txt": b"\x1b[2J\x1b]0;title\x07 words\n" * 80,
        "lines.txt": b"x\n" * 500_000,
    }


def sounds() -> Files:
    import soundfile

    def wav(rate: int, frames: int = 4000, channels: int = 1, bits: int = 16, size: int | None = None) -> bytes:
        data = (np.sin(np.arange(frames * channels) / 9) * 9000).astype(np.int16).tobytes()
        size = len(data) if size is None else size
        head = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * 2 % 2**32, 2 * channels % 2**16, bits)
        return b"RIFF" + struct.pack("<I", (36 + size) % 2**32) + b"WAVEfmt " + struct.pack("<I", 16) + head + (
            b"data" + struct.pack("<I", size) + data)  # fmt: skip

    def silence(kind: str) -> Callable[[Path], None]:
        def write(path: Path) -> None:
            with soundfile.SoundFile(path, "w", 8000, 1, format=kind) as file:
                for _ in range(64):
                    file.write(np.zeros(2**20, np.float32))

        return write

    files: Files = {f"rate{rate}.wav": wav(rate) for rate in (0, 1, 7, 100, 8001, 44_100, 2**20, 2**31 - 1, 2**32 - 1)}
    files |= {
        "channels.wav": wav(8000, 4000, 1024),
        "channels2.wav": wav(8000, 40, 65535),
        "bits.wav": wav(8000, bits=255),
        "size.wav": wav(8000, size=2**32 - 100),
        "short.wav": wav(8000, frames=1),
        "none.wav": wav(8000, frames=0),
        "empty.wav": b"",
        "silence.flac": silence("FLAC"),
        "silence.ogg": silence("OGG"),
        "nan.wav": float_wav(np.full(4000, np.nan, np.float32)),
        "loud.wav": float_wav(np.full(4000, 1e30, np.float32)),
        "text.wav": b"no sound\n" * 100,
        "text.mp3": b"\xff\xfb\x90\x00" + b"no sound\n" * 100,
    }
    for bit in range(32):
        files[f"bit{bit:02d}"] = folder_of({f"{i}.wav": wav(8000 ^ (1 << bit if i == 5 else 0)) for i in range(12)})
    return files


def float_wav(samples: np.ndarray) -> bytes:
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, samples, 8000, format="WAV", subtype="FLOAT")
    return out.getvalue()


def folder_of(members: dict[str, bytes]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.mkdir()
        for name, content in members.items():
            (path / name).write_bytes(content)

    return write


def folders() -> Files:
    """Folders of good files with one that is none of them."""
    whole = good_files()

    def fifo(path: Path) -> None:
        path.mkdir()
        os.mkfifo(path / "a.csv")

    def alone(path: Path) -> None:
        os.mkfifo(path)

    def linked(path: Path) -> None:
        path.mkdir()
        (path / "a.csv").symlink_to("/dev/zero")

    def loop(path: Path) -> None:
        path.mkdir()
        (path / "in").symlink_to(path)
        (path / "a.csv").write_bytes(whole["csv"])

    def deep(path: Path) -> None:
        inner = path.joinpath(*["d"] * 300)
        inner.mkdir(parents=True)
        (inner / "a.csv").write_bytes(whole["csv"])

    files: Files = {"fifo": fifo, "fifo.csv": alone, "device": linked, "loop": loop, "deep": deep}
    for suffix in ("png", "jpg", "wav", "flac", "webp"):
        rng = random.Random(suffix)
        good = {f"{i}.{suffix}": whole[suffix] for i in range(12)}
        files[f"one-{suffix}"] = folder_of(good | {f"5.{suffix}": damaged(whole[suffix], rng)})
        files[f"empty-{suffix}"] = folder_of(good | {f"5.{suffix}": b""})
    files["escapes"] = folder_of({f"\x1b[2J{i}.png": whole["png"] if i else b"none" for i in range(12)})
    return files


GROUPS: dict[str, Callable[[], Files]] = {"archives": archives, "tables": tables, "arrays": arrays,
                                          "pictures": pictures, "texts": texts, "sounds": sounds,
                                          "folders": folders}  # fmt: skip


def put(path: Path, content: bytes | Callable[[Path], None]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)
    return path


def battery(root: Path, times: int, only: str = "") -> Iterator[Path]:
    """Every file whose place holds this text, made when it is asked for."""
    for group, make in GROUPS.items():
        for name, content in make().items() if not only or only.partition("/")[0] == group else ():
            if only in f"{group}/{name}":
                yield put(root / group / name, content)
    for number, (name, content) in enumerate(damaged_files(times)):
        if only in f"damaged/{name}":
            yield put(root / "damaged" / f"{number}-{name}", content)
