"""What has become better is written down, so that it stays."""

from __future__ import annotations

import house


def test_how_often_modules_ask_is_written_down() -> None:
    """`python tests/test_architecture.py` does that."""
    assert house.counts() == house.written()
