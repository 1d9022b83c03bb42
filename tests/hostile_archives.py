"""Hostile archives and tables: what unpacks to far more than it is, points elsewhere, or lies about itself."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Files = dict[str, bytes | Callable[[Path], None]]
"""By their names: contents, or what writes them to a path."""


# -- hostile on purpose ------------------------------------------------------------------------------------------------

HUGE = 2**31
"""Bytes that a bomb unpacks to."""


def bomb(pack: Callable[[bytes], bytes], block: bytes) -> bytes:
    """Packed streams, one behind another, of a block that is repeated."""
    block = block * (2**24 // len(block))
    return pack(block) * (HUGE // len(block))


def later(make: Callable[..., bytes], *given: Any, **more: Any) -> Callable[[Path], None]:
    """What is made only when it is written."""

    def write(path: Path) -> None:
        path.write_bytes(make(*given, **more))

    return write


def png(width: int, height: int, depth: int, colour: int, more: bytes = b"") -> bytes:
    """A PNG of zeros."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    row, deflate = b"\0" * (1 + width * channels * depth // 8), zlib.compressobj(1)
    pixels = b"".join(deflate.compress(row * 1000) for _ in range(-(-height // 1000))) + deflate.flush()
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def npy(header: str, content: bytes = b"", version: int = 1) -> bytes:
    text = header.encode().ljust(118) + b"\n" if version == 1 else header.encode()
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + content


def zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def overlapping(members: int, size: int) -> bytes:
    """A zip whose members all are the same bytes of the file, which unpack to `size` each."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = deflate.compress(b"1,2\n" * (size // 4)) + deflate.flush()
    crc = zlib.crc32(b"1,2\n" * (size // 4))
    head = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, crc, len(block), size, 5, 0) + b"a.csv"
    directory = b"".join(
        struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 0, crc, len(block), size, len(name), 0, 0, 0, 0, 0, 0)
        + name
        for name in (f"{i}.csv".encode() for i in range(members))
    )
    start = len(head) + len(block)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, members, members, len(directory), start, 0)
    return head + block + directory + end


def with_count(content: bytes, count: int) -> bytes:
    """A zip whose end record tells another number of members."""
    out = bytearray(content)
    at = out.rfind(b"PK\5\6")
    out[at + 8 : at + 12] = struct.pack("<2H", count, count)
    return bytes(out)


def with_size(content: bytes, size: int) -> bytes:
    """A zip whose directory tells another size of its first member."""
    out = bytearray(content)
    at = out.find(b"PK\1\2")
    out[at + 24 : at + 28] = struct.pack("<I", size)
    return bytes(out)


def tarred(*members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for info, content in members:
            info.size = len(content) if info.isreg() else info.size
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def million_members(path: Path) -> None:
    """A zip whose directory holds a million."""
    one = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    head = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, 1, 0) + b"a"
    content = head + one * 1_000_000
    size, start = len(one) * 1_000_000, len(head)
    end = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1_000_000, 1_000_000, size, start)
    end += struct.pack("<4sIQI", b"PK\6\7", 0, start + size, 1)
    path.write_bytes(content + end + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0))


def archives() -> Files:
    rows = b"a,b\n" + b"1,2\n" * 60
    good = zipped({"a.csv": rows})
    link = zipfile.ZipInfo("a.csv")
    link.external_attr = 0o120777 << 16
    linked = io.BytesIO()
    with zipfile.ZipFile(linked, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    names = ["../a.csv", "/tmp/a.csv", "C:\\a.csv", "\\\\host\\a.csv", "x/../../a.csv", "..\\a.csv", "a\x1b[2J.csv"]
    files: Files = {f"name{i}.zip": zipped({name: rows}) for i, name in enumerate(names)}
    files |= {f"name{i}.tar": tarred((member(name), rows)) for i, name in enumerate(names)}
    files |= {
        "link.zip": linked.getvalue(),
        "count0.zip": with_count(good, 0),
        "count9.zip": with_count(good, 9),
        "count65535.zip": with_count(good, 65535),
        "size.zip": with_size(good, 2**32 - 2),
        "small.zip": with_size(good, 3),
        "overlap.zip": later(overlapping, 400, 2**24),
        "overlap2.zip": later(overlapping, 60_000, 2**10),
        "million.zip": million_members,
        "bomb.zip": later(lambda: zipped({"a.csv": b"1,2\n" * 2**25})),
        "bomb2.zip": later(lambda: zipped({"a.csv.gz": bomb(gzip.compress, b"1,2\n")})),
        "bomb3.zip": later(lambda: zipped({"b.zip": good, "a.csv.xz": bomb(lzma.compress, b"1,2\n")})),
        "empty.zip": zipped({}),
        "nothing.zip": b"",
        "devices.tar": tarred((member("a.csv", tarfile.CHRTYPE), b""), (member("b.csv", tarfile.FIFOTYPE), b"")),
        "link.tar": tarred((member("a.csv", tarfile.SYMTYPE, "/etc/passwd"), b"")),
        "hard.tar": tarred((member("a.csv", tarfile.LNKTYPE, "/etc/passwd"), b"")),
        "bomb.tar.gz": later(bomb, gzip.compress, tarred((member("a.csv"), rows))),
        "bomb.tar.xz": later(bomb, lzma.compress, b"\0"),
        "bomb.tar.bz2": later(bomb, bz2.compress, b"\0"),
        "many.tar": lambda path: path.write_bytes(member("a.csv").tobuf() * 600_000) and None,
        "huge.tar": member_of_size(2**60).tobuf() + rows,
        "negative.tar": member_of_size(-1000).tobuf(tarfile.GNU_FORMAT) + rows,
    }
    return files


def member_of_size(size: int) -> tarfile.TarInfo:
    info = member("a.csv")
    info.size = size
    return info


def tables() -> Files:
    import pyarrow as pa
    import pyarrow.feather
    import pyarrow.parquet

    def parquet(path: Path) -> None:
        table = pa.table({f"c{i}": np.zeros(2**20) for i in range(8)})
        with pa.parquet.ParquetWriter(path, table.schema, compression="zstd") as writer:
            for _ in range(HUGE // table.nbytes):
                writer.write_table(table)

    def texts(path: Path) -> None:
        cells = pa.DictionaryArray.from_arrays(np.zeros(10_000, np.int32), ["x" * 2**20])
        pa.parquet.write_table(pa.table({"a": cells, "b": np.arange(10_000.0)}), path)

    def nested(path: Path) -> None:
        cells = pa.ListArray.from_arrays(np.arange(0, 61 * 2**19, 2**19, np.int32), np.zeros(60 * 2**19))
        pa.parquet.write_table(pa.table({"a": cells, "b": np.arange(60.0)}), path, compression="zstd")

    def feather(compression: str) -> Callable[[Path], None]:
        def write(path: Path) -> None:
            table = pa.table({f"c{i}": np.zeros(2**21) for i in range(16)})
            options = pa.ipc.IpcWriteOptions(compression=compression)
            with pa.ipc.new_file(str(path), table.schema, options=options) as writer:
                for _ in range(HUGE // table.nbytes):
                    writer.write_table(table)

        return write

    def dictionary(path: Path) -> None:
        cells = pa.DictionaryArray.from_arrays(np.zeros(10_000, np.int32), ["x" * 2**20])
        pa.feather.write_feather(pa.table({"a": cells, "b": np.arange(10_000.0)}), path, compression="zstd")

    def offsets(values: list[int]) -> bytes:
        """An Arrow file whose texts begin and end there."""
        out = io.BytesIO()
        pa.feather.write_feather(pa.table({"a": ["abc", "de", "f"] * 20, "b": np.arange(60.0)}), out,
                                 compression="uncompressed")  # fmt: skip
        content = out.getvalue()
        ends = np.cumsum([0, *[3, 2, 1] * 20]).astype(np.int32).tobytes()
        assert ends in content
        return content.replace(ends, np.resize(np.array(values, np.int32), 61).tobytes())

    wide = ",".join(f"c{i}" for i in range(300_000)) + "\n"
    some = b"a,b\n" + b"1,x\n2,y\n" * 30
    files: Files = {
        "bomb.csv.gz": later(bomb, gzip.compress, b"1,2\n"),
        "bomb.csv.bz2": later(bomb, bz2.compress, b"1,2\n"),
        "bomb.csv.xz": later(bomb, lzma.compress, b"1,2\n"),
        "line.csv.gz": later(bomb, gzip.compress, b"1"),
        "bomb.jsonl.gz": later(bomb, gzip.compress, b'{"a": 1}\n'),
        "bomb.json.gz": later(bomb, gzip.compress, b"["),
        "bomb.parquet": parquet,
        "texts.parquet": texts,
        "nested.parquet": nested,
        "bomb.feather": feather("zstd"),
        "bomb2.feather": feather("lz4"),
        "dictionary.feather": dictionary,
        "offsets.arrow": offsets([0, 2**31 - 1]),
        "offsets2.arrow": offsets([-1, -(2**31)]),
        "offsets3.arrow": offsets([10**9, 5]),
        "wide.csv": (wide + wide).encode(),
        "wide2.csv": ((",".join(["1"] * 300_000) + "\n") * 3).encode(),
        "wide3.csv": ((",".join(["1.5"] * 1_000) + "\n") * 12).encode(),
        "wide.jsonl": (json.dumps({f"c{i}": 1 for i in range(300_000)}) + "\n").encode(),
        "field.csv": b'a,b\n1,"' + b"x" * 2**24 + b'"\n' + b"1,y\n" * 60,
        "field2.csv": b'a,b\n1,"' + b"x" * 10**6 + b'"\n' + b"1,y\n" * 60,
        "quote.csv": b'a,b\n1,"' + b"x,y\n" * 10**6,
        "line.csv": lambda path: path.write_bytes(b"1" * 2**28) and None,
        "bom.csv": b"\xef\xbb\xbf" + some,
        "semicolon.csv": some.replace(b",", b";"),
        "ragged.csv": b"a,b\n" + b"1,x\n2\n3,y,z\n" * 30,
        "mixed.csv": b"a,b\n" + b"1,x\nzwei,3\n2024-01-01,\n" * 30,
        "null.csv": b"a,b\n" + b",x\n,y\n" * 30,
        "nulls.csv": b"a,b\n" + b",\n" * 60,
        "constant.csv": b"a,b\n" + b"1,x\n" * 60,
        "twice.csv": b"a,a,a_2,\n" + b"1,2,3,4\n" * 60,
        "nan.csv": b"a,b\n" + b"NaN,1\ninf,2\n-inf,3\n1e999,4\n" * 20,
        "one.csv": b"a,b\n1,x\n",
        "header.csv": b"a,b\n",
        "empty.csv": b"",
        "blank.csv": b"\n" * 1000,
        "nul.csv": b"a,b\n" + b"1,\0\n" * 60,
        "latin.csv": b"a,b\n" + "1,\u00e4\n".encode("latin-1") * 60,
        "utf16.csv": ("a,b\n" + "1,\u00e4\n" * 60).encode("utf-16"),
        "categories.csv": b"a,b\n" + b"".join(b"c%d,1\n" % i for i in range(100_000)),
        "escape.csv": b"a\x1b[31m,\x1b]0;title\x07b\n" + b"1,x\x1b[2J\n2,y\n" * 30,
        "long.csv": b"a" * 10**6 + b",b\n" + b"1,x\n" * 60,
        "numbers.csv": b"a,b\n" + b"1" * 5000 + b",1e" + b"9" * 50 + b"\n" + b"1,2\n" * 60,
        "dates.csv": b"a,b\n" + b"9999999-01-01,99:99\n0000-00-00,1\n" * 30,
        "big.csv": b"a,b\n" + b"170141183460469231731687303715884105728,1\n-1,2\n" * 30,
        "deep.jsonl": (b'{"a": ' * 100_000 + b"1" + b"}" * 100_000 + b"\n") * 3,
        "deep.json": b"[" * 1_000_000,
        "deep2.json": b'[{"a": ' * 2000 + b"1" + b"}]" * 2000,
        "number.jsonl": b'{"a": ' + b"9" * 10_000 + b"}\n" + b'{"a": 1}\n' * 60,
        "inf.jsonl": b'{"a": 1e999, "b": NaN}\n' * 60,
        "surrogate.jsonl": b'{"a": "\\ud800"}\n{"a": "x"}\n' * 60,
        "twice.jsonl": b'{"a": 1, "a": "x"}\n' * 60,
        "line.jsonl": b'{"a": "' + b"x" * 2**26 + b'"}\n',
        "bad.jsonl": b'{"a": 1}\n' * 50 + b"{\n[1]\nnull\n" * 9,
        "empty.jsonl": b"",
        "empty.parquet": b"",
        "magic.parquet": b"PAR1" + b"\xff" * 1000 + b"\xff\xff\xff\x7fPAR1",
        "magic.arrow": b"ARROW1\0\0" + b"\xff" * 1000,
        "stream.arrow": b"\xff\xff\xff\xff\xff\xff\xff\x7f" + b"\0" * 100,
    }
    return files
