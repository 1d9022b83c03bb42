"""Bytes of a text file, in whatever encoding, as UTF-8."""

from __future__ import annotations

import re


def decoded(content: bytes, *, lenient: bool = False) -> tuple[bytes, list[str]]:
    """The same as UTF-8, and a note where it was not. Raises ValueError for what is no text, or damaged UTF-8, in which
    a `lenient` reader puts U+FFFD instead.
    """
    wide = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else ""
    some = content[:2000]
    for name, zeros in (("utf-16-le", some[1::2].count(0)), ("utf-16-be", some[::2].count(0))):
        if not wide and some[:2].count(0) == 1 and 5 * zeros > 2 * len(some):  # mostly Latin letters, without a mark
            wide = name
    if wide:
        return content.decode(wide).encode(), ["the file is UTF-16"]
    try:
        content.decode("utf-8")
        return content, []
    except UnicodeDecodeError as error:
        good = len(re.findall(rb"[\xc3-\xf4][\x80-\xbf]+", content))
        mended = content.decode("utf-8", "replace")
        bad = mended.count("\ufffd")
        if b"\0" in content:
            raise ValueError("it holds NUL bytes: this is no text file") from None
        if good > bad and lenient:
            return mended.encode(), [f"damaged UTF-8: U+FFFD stands in {bad:,} places"]
        if good > bad:
            raise ValueError(f"damaged UTF-8: byte {content[error.start]:#04x} at offset {error.start:,}") from None
    try:
        return content.decode("cp1252").encode(), ["the file is not UTF-8: read as Windows-1252 (Western European)"]
    except UnicodeDecodeError:
        return content.decode("latin-1").encode(), ["the file is not UTF-8: read as Latin-1"]
