"""The five families of deep generative models, one interface, honestly compared."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if "torch" not in sys.modules:
    # Threads that wait for others must not keep the processors busy: beside one other process that costs a step ten
    # times its time. It is read when torch is loaded, so it stands here; what the user has set stays.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")

if TYPE_CHECKING:
    from quintet.api import compare, load, resume, train
    from quintet.core.errors import QuintetError
    from quintet.model import Model

__version__ = "0.1.0"
__all__ = ["Model", "QuintetError", "__version__", "compare", "load", "resume", "train"]


def __getattr__(name: str) -> Any:
    """Public names are imported when they are used, so that `import quintet` costs nothing."""
    if name == "QuintetError":
        from quintet.core.errors import QuintetError

        return QuintetError
    if name in __all__:
        from quintet import api

        return getattr(api, name)
    raise AttributeError(f"module 'quintet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
