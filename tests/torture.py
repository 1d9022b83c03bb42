"""A disk that fails and forgets: what a program asks of a folder is recorded, call by call, so that
a call can be made to fail, and so that every state can be made that a crash may leave behind.

The model is that of POSIX without a journal. What was written to a file is safe once that file is fsynced, and a name
in a folder (one that was made, moved or removed) once that folder is; of the rest, a crash keeps what it likes.
It needs only the standard library, so that savers of other libraries are recorded in their own environments.
"""

from __future__ import annotations

import builtins
import importlib.util
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

ROOT = 0
"""The number of the recorded folder itself; each file or folder below has one of its own."""
WRITING = set("wax+")


class Op(NamedTuple):
    """One thing that was done: `data` (at, bytes), `size` (bytes), `name` (old place, new place) or `sync`, of the file
    or folder of that number. A place is (number of the folder, name), or None.
    """

    kind: str
    number: int
    what: Any = None

    def synced_by(self) -> int:
        """Whose fsync makes it safe: the file's own, or that of the folder where the name stands, or stood."""
        if self.kind != "name":
            return self.number
        old, new = self.what
        return int((new or old)[0])


@dataclass
class Tree:
    """Files and folders by their number: contents, and names."""

    files: dict[int, bytearray] = field(default_factory=dict)
    folders: dict[int, dict[str, int]] = field(default_factory=lambda: {ROOT: {}})

    def apply(self, op: Op) -> None:
        if op.kind == "data":
            at, content = op.what
            file = self.files.setdefault(op.number, bytearray())
            file.extend(bytes(max(0, at - len(file))))
            file[at : at + len(content)] = content
        elif op.kind == "size":
            file = self.files.setdefault(op.number, bytearray())
            del file[op.what :]
            file.extend(bytes(op.what - len(file)))
        elif op.kind == "name":
            old, new = op.what
            if old is not None and self.folders.get(old[0], {}).get(old[1]) == op.number:
                del self.folders[old[0]][old[1]]
            if new is not None:
                self.folders.setdefault(new[0], {})[new[1]] = op.number

    def below(self, number: int = ROOT, path: str = "") -> Iterator[tuple[str, bytes | None]]:
        """(path, content) of everything that a name leads to; a folder has None."""
        for name, inner in sorted(self.folders[number].items()):
            if inner in self.folders:
                yield f"{path}{name}", None
                yield from self.below(inner, f"{path}{name}/")
            else:
                yield f"{path}{name}", bytes(self.files.get(inner, b""))

    def write(self, root: Path) -> None:
        """Make the folder what this is."""
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        for path, content in self.below():
            (root / path).mkdir() if content is None else (root / path).write_bytes(content)


class Crash(NamedTuple):
    """What a crash left: after how many operations, what was kept of those that were not synced, and the tree."""

    after: int
    kept: str
    tree: Tree


class Recorded(io.FileIO):
    """A file whose writes a disk records."""

    def __init__(self, disk: Disk, path: Path, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.disk, self.number = disk, disk.at(path)

    def write(self, content: Any) -> int:
        content = bytes(content)
        try:
            self.disk.ask("write", self.number)
        except OSError:
            self._write(content[: len(content) // 2])  # a full disk takes what it can
            raise
        return self._write(content)

    def _write(self, content: bytes) -> int:
        at = os.lseek(self.fileno(), 0, os.SEEK_END if "a" in self.mode else os.SEEK_CUR)
        count = super().write(content) or 0
        self.disk.add(Op("data", self.number, (at, content[:count])))
        return count

    def truncate(self, size: int | None = None) -> int:
        size = super().truncate(size)
        self.disk.add(Op("size", self.number, size))
        return size


class Disk:
    """Inside `with`, everything that this process asks of the folder `root` passes here.

    `fails(call, count)` is asked before each call that changes something: the number of an error to raise, or 0.
    """

    def __init__(self, root: Path, fails: Callable[[str, int], int] = lambda call, count: 0) -> None:
        self.root, self.fails = Path(os.path.realpath(root)), fails
        self.ops: list[Op] = []
        self.calls: list[str] = []
        self.marks: list[tuple[int, Any]] = []
        self.start, self.now = Tree(), Tree()
        self.next = ROOT + 1
        self.real: dict[str, Any] = {}
        self._take(self.root, ROOT)

    def _take(self, path: Path, number: int) -> None:
        """What lay there before is safe."""
        for child in sorted(path.iterdir()):
            inner, self.next = self.next, self.next + 1
            for tree in (self.start, self.now):
                tree.folders[number][child.name] = inner
                if child.is_dir():
                    tree.folders[inner] = {}
                else:
                    tree.files[inner] = bytearray(child.read_bytes())
            if child.is_dir():
                self._take(child, inner)

    # -- what is recorded --------------------------------------------------------------------------------------------

    def mark(self, what: Any) -> None:
        """From here on, the program believes that `what` is safe."""
        self.marks.append((len(self.ops), what))

    def add(self, op: Op) -> None:
        self.ops.append(op)
        self.now.apply(op)

    def ask(self, call: str, number: int) -> None:
        """Count a call, and raise its error."""
        self.calls.append(call)
        if code := self.fails(call, len(self.calls)):
            raise OSError(code, os.strerror(code), f"{call} {number}")

    def path(self, path: Any, folder: int | None = None) -> Path | None:
        """Where a path lies below the root; None outside."""
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        base = Path.cwd() if folder is None else Path(os.readlink(f"/proc/self/fd/{folder}"))
        full = base / os.fsdecode(path)
        full = Path(os.path.realpath(full.parent)) / full.name
        return full if full == self.root or self.root in full.parents else None

    def at(self, path: Path) -> int:
        """The number of what stands there; -1 if nothing does."""
        number = ROOT
        for part in path.relative_to(self.root).parts:
            number = self.now.folders.get(number, {}).get(part, -1)
        return number

    def place(self, path: Path) -> tuple[int, str]:
        return self.at(path.parent), path.name

    def made(self, path: Path, folder: bool = False) -> None:
        """Record a new file or folder."""
        number, self.next = self.next, self.next + 1
        (self.now.folders.__setitem__(number, {}) if folder else self.now.files.__setitem__(number, bytearray()))
        self.add(Op("name", number, (None, self.place(path))))

    # -- the calls ---------------------------------------------------------------------------------------------------

    def open(self, file: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, errors: Any = None,
             newline: Any = None, closefd: bool = True, opener: Any = None) -> Any:  # fmt: skip
        path = self.path(file) if isinstance(file, int | str | bytes | os.PathLike) else None
        if path is None or not WRITING & set(mode):
            return self.real["open"](file, mode, buffering, encoding, errors, newline, closefd, opener)
        existed = os.path.lexists(path)
        if not isinstance(file, int):
            self.ask("open", self.at(path))
        raw_mode = mode.replace("b", "").replace("t", "")
        if not existed:
            raw = io.FileIO(file, raw_mode, closefd, opener)
            self.made(path)
            raw.close()
            raw_mode = raw_mode.replace("x", "w")
        elif "w" in mode and not isinstance(file, int):
            self.add(Op("size", self.at(path), 0))
        raw = Recorded(self, path, file, raw_mode, closefd, None if isinstance(file, int) else opener)
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    def os_open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        found = self.path(path, dir_fd)
        if found is None or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return self.real["os_open"](path, flags, mode, dir_fd=dir_fd)
        existed = os.path.lexists(found)
        self.ask("open", self.at(found))
        handle = self.real["os_open"](path, flags, mode, dir_fd=dir_fd)
        if not existed:
            self.made(found)
        elif flags & os.O_TRUNC:
            self.add(Op("size", self.at(found), 0))
        return handle

    def os_write(self, handle: int, content: Any) -> int:
        path = self.path(handle)
        if path is None or not os.path.lexists(path) or (number := self.at(path)) < 0:
            return self.real["os_write"](handle, content)
        self.ask("write", number)
        at = os.lseek(handle, 0, os.SEEK_CUR)
        count = self.real["os_write"](handle, content)
        self.add(Op("data", number, (at, bytes(content)[:count])))
        return count

    def fsync(self, handle: Any) -> None:
        handle = handle if isinstance(handle, int) else handle.fileno()
        path = self.path(handle)
        if path is not None and (number := self.at(path)) >= 0:
            self.ask("fsync", number)
            self.real["fsync"](handle)
            return self.add(Op("sync", number))
        return self.real["fsync"](handle)

    def rename(self, old: Any, new: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        source, target = self.path(old, src_dir_fd), self.path(new, dst_dir_fd)
        if source is not None and target is not None:
            self.ask("rename", self.at(source))
        self.real["rename"](old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        if source is not None and target is not None:
            self.add(Op("name", self.at(source), (self.place(source), self.place(target))))

    def _remover(self, call: str) -> Callable[..., None]:
        def remove(path: Any, *, dir_fd: int | None = None) -> None:
            found = self.path(path, dir_fd)
            if found is not None:
                self.ask(call, self.at(found))
            self.real[call](path, dir_fd=dir_fd)
            if found is not None:
                self.add(Op("name", self.at(found), (self.place(found), None)))

        return remove

    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        found = self.path(path, dir_fd)
        if found is not None:
            self.ask("mkdir", -1)
        self.real["mkdir"](path, mode, dir_fd=dir_fd)
        if found is not None:
            self.made(found, folder=True)

    def link(self, old: Any, new: Any, **more: Any) -> None:
        self.real["link"](old, new, **more)
        source, target = self.path(old), self.path(new)
        if source is not None and target is not None:
            self.add(Op("name", self.at(source), (None, self.place(target))))

    def __enter__(self) -> Disk:
        remove, rmdir = self._remover("unlink"), self._remover("rmdir")
        changed = [
            (builtins, "open", "open", self.open), (io, "open", "open", self.open),
            (os, "open", "os_open", self.os_open), (os, "write", "os_write", self.os_write),
            (os, "fsync", "fsync", self.fsync), (os, "fdatasync", "fsync", self.fsync),
            (os, "rename", "rename", self.rename), (os, "replace", "rename", self.rename),
            (os, "unlink", "unlink", remove), (os, "remove", "unlink", remove), (os, "rmdir", "rmdir", rmdir),
            (os, "mkdir", "mkdir", self.mkdir), (os, "link", "link", self.link),
            (shutil, "_USE_CP_SENDFILE", "sendfile", False),
        ]  # fmt: skip
        if importlib.util.find_spec("safetensors"):  # it writes without Python
            safe = importlib.import_module("safetensors.torch")

            def serialize_file(tensors: Any, filename: Any, metadata: Any = None) -> None:
                with self.open(filename, "wb") as file:
                    file.write(safe.serialize(tensors, metadata=metadata))

            changed.append((safe, "serialize_file", "serialize_file", serialize_file))
        self.undo = []
        for holder, name, key, ours in changed:
            real = getattr(holder, name)
            self.real.setdefault(key, os.replace if name == "rename" else real)
            self.undo.append((holder, name, real))
            setattr(holder, name, ours)
        return self

    def __exit__(self, *_: object) -> None:
        for holder, name, real in self.undo:
            setattr(holder, name, real)

    # -- what a crash leaves -----------------------------------------------------------------------------------------

    def tree(self, ops: Iterable[Op]) -> Tree:
        """The start with these operations done."""
        out = Tree({n: bytearray(data) for n, data in self.start.files.items()},
                   {n: dict(names) for n, names in self.start.folders.items()})  # fmt: skip
        for op in self.ops:
            if op.kind == "name" and op.number in self.now.folders:
                out.folders.setdefault(op.number, {})
        for op in ops:
            out.apply(op)
        return out

    def crashes(self, every: int = 1) -> Iterator[Crash]:
        """Every different state after each operation (or each `every`-th) and mark: of what was not synced, all is
        kept, nothing, only names, only contents, contents half or as zeros, all but one operation, or only one.
        """
        seen: set[int] = set()
        for after in range(0, len(self.ops) + 1, every):
            for kept, ops in self.survivors(after):
                tree = self.tree(ops)
                key = hash((tuple(tree.below()), sum(at <= after for at, _ in self.marks)))
                if key not in seen:
                    seen.add(key)
                    yield Crash(after, kept, tree)

    def survivors(self, after: int) -> Iterator[tuple[str, list[Op]]]:
        done = [op for op in self.ops[:after] if op.kind != "sync"]
        safe, synced = set[int](), set[int]()
        for i in reversed(range(after)):
            op = self.ops[i]
            if op.kind == "sync":
                synced.add(op.number)
            elif op.synced_by() in synced:
                safe.add(id(op))
        loose = [op for op in done if id(op) not in safe]

        def keeping(wanted: Callable[[Op], bool], change: Callable[[Op], Op] = lambda op: op) -> list[Op]:
            out = []
            for op in done:
                if id(op) in safe:
                    out.append(op)
                elif wanted(op):
                    out.append(change(op))
            return out

        def half(op: Op) -> Op:
            return op._replace(what=(op.what[0], op.what[1][: len(op.what[1]) // 2])) if op.kind == "data" else op

        def zeros(op: Op) -> Op:
            return op._replace(what=(op.what[0], bytes(len(op.what[1])))) if op.kind == "data" else op

        yield "everything", done
        yield "nothing", keeping(lambda op: False)
        yield "names alone", keeping(lambda op: op.kind == "name")
        yield "contents alone", keeping(lambda op: op.kind != "name")
        yield "contents half", keeping(lambda op: True, half)
        yield "contents as zeros", keeping(lambda op: True, zeros)
        for one in loose:
            yield "all but one", keeping(lambda op, one=one: op is not one)
            yield "one alone", keeping(lambda op, one=one: op is one)
