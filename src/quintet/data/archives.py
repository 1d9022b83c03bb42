"""Files of a folder, a zip or a tar as entries that can be opened; hostile archives are refused before unpacking."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import os
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO

from quintet.core.errors import DataError

MEMBERS = 500_000
"""Files in one archive."""
RATIO = 200
"""How many times its packed size a member or an archive may unpack to, if that is more than RATIO_FROM bytes."""
RATIO_FROM = 2**26
FILE_LIMIT = 2**30
"""Bytes of a file that is read as a whole."""
IN_MEMORY = 2**28
"""Bytes up to which an unpacked tar stays in memory; a larger one lies in a temporary file while it is read."""

ZIP, TAR = (".zip",), (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
PACKED: Mapping[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
"""What opens a file that is packed by itself."""
BROKEN = (OSError, EOFError, ValueError, zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError,
          NotImplementedError, RuntimeError, struct.error, OverflowError)  # fmt: skip
"""What the standard library raises on a damaged archive."""


class BadFile(Exception):
    """One file that cannot be read, and why. Many good ones may make up for it: see `Problems`. `large`: nothing may be
    wrong with it, but that it is larger than one that is read as a whole.
    """

    def __init__(self, why: str, *, large: bool = False) -> None:
        super().__init__(why)
        self.large = large


@dataclass(frozen=True)
class Entry:
    """A file: its name inside the source, bytes, time of change, and how to open it."""

    name: str
    size: int
    stamp: int
    """When the file last changed, as the system says in nanoseconds (ctime): no program sets that back."""
    opener: Callable[[], Any]
    path: Path | None = None
    """Where it lies on disk as it is (not inside an archive, not packed)."""
    packed: bool = False
    """Whether `size` is that of a .gz, .bz2 or .xz, and it is larger when it is read."""

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix.lower()

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    def open(self) -> BinaryIO:
        """A binary stream. Raises BadFile."""
        try:
            opened: BinaryIO = self.opener()
        except BROKEN as error:
            raise BadFile(in_one_line(error)) from None
        return opened

    def read(self, limit: int = FILE_LIMIT) -> bytes:
        """All bytes. Raises BadFile if there are more than `limit`, or if they cannot be read."""
        if self.size > limit:
            raise BadFile(f"it has {self.size:,} bytes, but at most {limit:,} are allowed", large=True)
        try:
            with self.open() as stream:
                content = stream.read(limit + 1)
        except BROKEN as error:
            raise BadFile(in_one_line(error)) from None
        if len(content) > limit:
            raise BadFile(f"it unpacks to more than {limit:,} bytes, which is the limit", large=True)
        return content


def in_one_line(error: BaseException) -> str:
    """An exception in one short line."""
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:200]


# -- folders and single files ----------------------------------------------------------------------------------------


def is_archive(name: str) -> bool:
    return name.lower().endswith((*ZIP, *TAR))


def entries_of(path: Path) -> list[Entry]:
    """The files of a path in the order of their names: one file, a folder with all below it, or an archive."""
    try:
        if path.is_dir():
            return list(_folder(path))
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError("this is neither a file nor a folder", where=str(path),
                            why="it is a device, a pipe or a socket", fix="give the path of a file or a folder"
                            )  # fmt: skip
        if path.name.lower().endswith(ZIP):
            return zip_entries(path)
        if path.name.lower().endswith(TAR):
            return tar_entries(path)
        return [unpacked(_file(path, path.name))]
    except OSError as error:
        raise DataError(
            "the file or folder cannot be read",
            where=str(path),
            why=in_one_line(error),
            fix="check that you have permission to read it",
        ) from None


def _folder(root: Path) -> Iterator[Entry]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        for name in sorted(files):
            path = Path(folder) / name
            if name.startswith(".") or not path.is_file():  # hidden, a device, or a link to nowhere
                continue
            yield unpacked(_file(path, path.relative_to(root).as_posix()))


def _file(path: Path, name: str) -> Entry:
    facts = path.stat()
    return Entry(name, facts.st_size, facts.st_ctime_ns, lambda: path.open("rb"), path)


def unpacked(entry: Entry) -> Entry:
    """name.csv.gz as name.csv; anything else as it is."""
    opener = PACKED.get(entry.suffix)
    if opener is None or is_archive(entry.name):
        return entry

    def opened() -> BinaryIO:
        return io.BufferedReader(_Unpacked(opener(entry.open()), entry.size), 2**20)

    return Entry(entry.name[: -len(entry.suffix)], entry.size, entry.stamp, opened, packed=True)


class _Unpacked(io.RawIOBase):
    """A stream that unpacks, which raises OSError once it has given far more than was packed."""

    def __init__(self, stream: Any, packed: int) -> None:
        self.stream, self.packed, self.given = stream, packed, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self.stream.read(min(len(buffer), 2**20))
        self.given += len(content)
        if why := bomb(self.given, self.packed):
            raise OSError(why)
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self.stream.close()
        super().close()


# -- archives --------------------------------------------------------------------------------------------------------


def refuse(where: str, why: str) -> DataError:
    return DataError(
        "this archive is refused and not unpacked",
        where=where,
        why=why,
        fix="if you trust the archive, unpack it yourself and give the folder",
    )


def safe_name(name: str, where: str) -> str:
    """The name of a member, if it stays inside the archive's folder. Raises DataError."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
        raise refuse(where, f"its member {name[:100]!r} would be written outside of the folder")
    return "/".join(part for part in parts if part not in ("", "."))


def is_hidden(name: str) -> bool:
    """Whether a file is none of the data: one of the system, or one without a name."""
    return not name or any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def zip_entries(source: Path | IO[bytes], where: str = "", stamp: int = 0) -> list[Entry]:
    """The members of a zip. Raises DataError for one that is broken, encrypted, too large, or points outside."""
    where = where or str(source)
    if isinstance(source, Path):
        stamp = source.stat().st_ctime_ns
    try:
        with source.open("rb") if isinstance(source, Path) else _kept(source) as stream:
            count = _zip_count(stream)
        if count > MEMBERS:
            raise refuse(where, f"it has {count:,} members, but at most {MEMBERS:,} are allowed")
        archive = zipfile.ZipFile(source)
    except BROKEN as error:
        raise DataError(
            "the file is not a valid zip archive",
            where=where,
            why=in_one_line(error),
            fix="copy or download the file again",
        ) from None
    entries, packed, size, members = [], 0, 0, archive.infolist()
    if (count - len(members)) % 2**16:  # of which some programs write the last 16 bits alone
        raise refuse(where, f"its directory announces {count:,} members, but it has {len(members):,}")
    for info in members:
        name = safe_name(info.filename, where)
        if stat.S_ISLNK(info.external_attr >> 16):
            raise refuse(where, f"its member {name[:100]!r} is a link")
        if info.flag_bits & 1:
            raise refuse(where, f"its member {name[:100]!r} is encrypted")
        packed, size = packed + info.compress_size, size + info.file_size
        _check_ratio(info.file_size, info.compress_size, where)
        if not info.filename.endswith("/") and not is_hidden(name):
            entries.append(unpacked(Entry(name, info.file_size, stamp, _member(archive, info))))
    _check_ratio(size, packed, where)
    places = sorted((info.header_offset, info.header_offset + info.compress_size) for info in members)
    if any(end > start for (_, end), (start, _) in itertools.pairwise(places)):
        raise refuse(where, "its members overlap, so that the same bytes would be unpacked again and again")
    return sorted(entries, key=lambda entry: entry.name)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], Any]:
    return lambda: archive.open(info)


class _kept:
    """A stream as a context that stays open."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream

    def __enter__(self) -> IO[bytes]:
        return self.stream

    def __exit__(self, *_: object) -> None:
        self.stream.seek(0)


def bomb(size: int, packed: int) -> str:
    """Why so many bytes are too much for that which they are packed in; "" if they are not."""
    if size <= RATIO_FROM or size <= RATIO * max(packed, 1):
        return ""
    return f"{packed:,} bytes unpack to {size:,} or more: more than {RATIO} times"


def _check_ratio(size: int, packed: int, where: str) -> None:
    if why := bomb(size, packed):
        raise refuse(where, why)


def _zip_count(stream: IO[bytes]) -> int:
    """The number of members by the end record, before a directory of any length is parsed (APPNOTE 4.3.14 to 16)."""
    size = stream.seek(0, os.SEEK_END)
    start = max(0, size - 65_557)
    stream.seek(start)
    tail = stream.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0:
        raise zipfile.BadZipFile("it has no directory at its end")
    (count,) = struct.unpack_from("<H", tail, at + 10)
    if count < 0xFFFF or tail[max(0, at - 20) : at - 16] != b"PK\x06\x07":
        return int(count)
    (offset,) = struct.unpack_from("<Q", tail, at - 12)
    stream.seek(offset + 32)
    return int(struct.unpack("<Q", stream.read(8))[0])


def tar_entries(path: Path) -> list[Entry]:
    """The members of a tar, which is unpacked as a stream first if it is packed. Raises DataError as `zip_entries`."""
    where, stamp = str(path), path.stat().st_ctime_ns
    try:
        plain = _plain_tar(path, where)
        _count_members(plain, where)
        archive = tarfile.open(fileobj=plain, mode="r:")  # noqa: SIM115
        entries = []
        for info in archive:
            name = safe_name(info.name, where)
            if not info.isreg() and not info.isdir():
                raise refuse(where, f"its member {name[:100]!r} is a link or a device")
            if info.isreg() and not is_hidden(name):
                entries.append(unpacked(Entry(name, info.size, stamp, _slice(plain, info.offset_data, info.size))))
    except BROKEN as error:
        raise DataError(
            "the file is not a valid tar archive",
            where=where,
            why=in_one_line(error),
            fix="copy or download the file again",
        ) from None
    return sorted(entries, key=lambda entry: entry.name)


def _count_members(plain: Any, where: str) -> None:
    """Raise DataError for too many members, before objects are made of them: each is a block of 512 bytes, of which 12
    at 124 are its size, and then its content in whole blocks (POSIX.1-2008, pax).
    """
    count = at = 0
    while len(head := plain.read(tarfile.BLOCKSIZE)) == tarfile.BLOCKSIZE and any(head):
        count += head[156:157] not in b"xgLK"  # what stands before a member: its long name, its times
        if count > MEMBERS:
            raise refuse(where, f"it has more than {MEMBERS:,} members")
        size = int(tarfile.nti(head[124:136]))  # type: ignore[attr-defined]
        if size < 0:
            raise tarfile.TarError("a member of less than no bytes")
        at += tarfile.BLOCKSIZE * (1 + -(-size // tarfile.BLOCKSIZE))
        plain.seek(at)
    plain.seek(0)


def _plain_tar(path: Path, where: str) -> Any:
    if path.suffix.lower() == ".tar":
        return path.open("rb")
    suffix = path.suffix.lower()
    opener: Any = gzip.open if suffix in (".gz", ".tgz") else bz2.open if "bz" in suffix else lzma.open
    plain = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - it lives as long as the entries
    packed = path.stat().st_size
    with opener(path, "rb") as stream:
        while block := stream.read(2**22):
            plain.write(block)
            _check_ratio(plain.tell(), packed, where)
    plain.seek(0)
    return plain


class _Slice:
    """Bytes start ... start + size of a file that others read too."""

    def __init__(self, file: Any, start: int, size: int) -> None:
        self.file, self.start, self.size, self.at = file, start, size, 0

    def read(self, count: int = -1) -> bytes:
        left = self.size - self.at
        count = left if count is None or count < 0 else min(count, left)
        self.file.seek(self.start + self.at)
        content: bytes = self.file.read(count)
        if len(content) < count:
            raise EOFError("the archive ends in the middle of it")
        self.at += count
        return content

    @property
    def closed(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing: the archive stays open."""

    def __enter__(self) -> _Slice:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _slice(file: Any, start: int, size: int) -> Callable[[], Any]:
    return lambda: _Slice(file, start, size)
