"""The five families of deep generative models, one interface, honestly compared."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if "torch" not in sys.modules:
    # Threads that wait for others must not keep the processors busy: beside one other process that costs a step ten
    # times its time. It is read when torch is loaded, so it stands here; what the user has set stays.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")

if TYPE_CHECKING:
    from quintet.api.model import Model
    from quintet.api.verbs import compare, distil, load, resume, train
    from quintet.core.errors import QuintetError

__version__ = "0.1.0"
__all__ = ["Model", "QuintetError", "__version__", "compare", "distil", "load", "resume", "train"]


HOME = {
    "Model": "api.model", "QuintetError": "core.errors", "compare": "api.verbs",
    "distil": "api.verbs", "load": "api.verbs", "resume": "api.verbs", "train": "api.verbs",
}  # fmt: skip
"""The module of each public name: it is imported when the name is used, so that `import quintet` costs nothing."""


def __getattr__(name: str) -> Any:
    if name in HOME:
        return getattr(import_module(f"quintet.{HOME[name]}"), name)
    raise AttributeError(f"module 'quintet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
