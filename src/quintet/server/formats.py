"""In which formats items come and go: media types and the suffixes of files that mean the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from quintet.server.problems import Refusal

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
MEDIA = {
    ".csv": "text/csv",
    ".txt": "text/plain",
    ".jsonl": "application/x-ndjson",
    ".parquet": "application/vnd.apache.parquet",
    ".npz": "application/x-npz",
    ".png": "image/png",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
}
SUFFIXES = {media: suffix for suffix, media in MEDIA.items()} | {
    "image/jpeg": ".jpg", "image/webp": ".webp", "audio/x-wav": ".wav", "application/zip": ".npz",
}  # fmt: skip
"""How files that come are read; some formats are read and never written."""


def accepted(accept: str, offered: Iterable[str]) -> str:
    """The one of `offered` media types that a header `Accept` likes best, the first where it likes several alike.

    Raises Refusal 406.
    """
    ranges = list(ranges_of(accept or "*/*"))
    best, chosen = 0.0, None
    for media in (known := list(offered)):
        fits = [(quality, len(one)) for one, quality in ranges if matches(one, media)]
        quality = max(fits, key=lambda fit: fit[1])[0] if fits else 0.0  # the most special range decides
        if quality > best:
            best, chosen = quality, media
    if chosen is None:
        raise Refusal(406, "this answer has no such format", why=f"it can be {', '.join(known)}")
    return chosen


def ranges_of(accept: str) -> Iterable[tuple[str, float]]:
    """(media range, quality) of each part of a header `Accept`; what is none is passed over."""
    for part in accept.split(","):
        media, *parameters = (word.strip().lower() for word in part.split(";"))
        quality = next((word[2:] for word in parameters if word.startswith("q=")), "1")
        try:
            yield media.removesuffix("*/*").removesuffix("/*"), min(1.0, max(0.0, float(quality)))
        except ValueError:
            continue


def matches(one: str, media: str) -> bool:
    """Whether a media range, `image` or `image/png` or nothing at all, takes this media type."""
    return not one or one in (media, media.split("/")[0])


def media_of(header: str) -> tuple[str, dict[str, str]]:
    """(media type, parameters) of a header `Content-Type`."""
    from email.message import Message

    message = Message()
    message["content-type"] = header
    parameters: Any = message.get_params() or []
    return message.get_content_type(), {key.lower(): str(value) for key, value in parameters[1:]}
