"""The one rule for names of runs, on the command line, in Python, over HTTP and in the studio."""

from __future__ import annotations

import re
import unicodedata

from quintet.core.errors import UsageError

LONGEST = 200
"""Bytes of a name in UTF-8. File systems take 255, and files of a run add a number, a verb or a suffix to it."""
UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
"""Letters and marks that nobody sees, so that two names that look alike would be two runs."""


def normal(name: str) -> str:
    """A name as it is written and looked for: a letter with its accent is one sign (Unicode's form NFC)."""
    return unicodedata.normalize("NFC", name)


def first_stage_of(run: str) -> str:
    """The name of the run of the autoencoder that is trained before the run of this name, on the way to it."""
    return f"{run}-autoencoder"


def allowed(sign: str) -> bool:
    """Whether a sign may stand in a name: letters and digits of any script, the marks on them, and - _ . alone."""
    kind = unicodedata.category(sign)
    return sign in "-_." or ((kind[0] == "L" or kind in ("Nd", "Mn", "Mc")) and not UNSEEN.match(sign))


def check_name(name: str) -> str:
    """The name in its normal form. Raises UsageError unless a run can have it."""
    made = normal(name)
    if not made or unicodedata.category(made[0])[0] not in "LN" or not all(map(allowed, made)):
        raise UsageError(f"a run cannot be named {name!r}", fix="choose another name",
                         why="a name has letters, digits, . _ and -, and begins with a letter or digit")  # fmt: skip
    if (size := len(made.encode())) > LONGEST:
        raise UsageError(f"this name of a run is too long: {size} bytes in UTF-8", 
                         why=f"at most {LONGEST} bytes are allowed", fix="choose a shorter name")  # fmt: skip
    return made


def stem(text: str) -> str:
    """The beginning of a name that is made of any text, as the name of a file is: what no name has becomes a dash."""
    kept = "".join(sign if allowed(sign) else " " for sign in normal(text)).lstrip("-._ ")
    while kept and unicodedata.category(kept[0])[0] not in "LN":  # a mark that has lost its letter
        kept = kept[1:].lstrip("-._ ")
    cut = re.sub(r"\s+", "-", kept.strip()).encode()[: LONGEST - 20].decode(errors="ignore")
    return cut.strip("-._") or "run"
