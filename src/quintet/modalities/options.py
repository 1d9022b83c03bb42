"""What each kind of data lets its user choose. It is free of torch."""

from __future__ import annotations

from importlib import import_module

from quintet.modalities import KINDS, Options

OPTIONS: dict[str, Options] = {kind: import_module(f"quintet.modalities.{kind}.options").OPTIONS for kind in KINDS}
