"""Check the types of arguments before a function runs, and name the argument that is wrong."""

from __future__ import annotations

import functools
import inspect
import numbers
import operator
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from quintet.core.errors import UsageError
from quintet.core.settings import LARGEST_NUMBER

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)

WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "True or False", Path: "a path",
         type(None): "None", Mapping: "a mapping", Sequence: "a list", Callable: "a function"}  # fmt: skip


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """A function that raises UsageError for an argument which is not of the simple type that its signature says: text,
    number, truth value, path, list, mapping. What is annotated otherwise is left to the function.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            parameter = signature.parameters[name]
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                hint = _hint(function, parameter.annotation)
                if not fits(value, hint):
                    raise UsageError(f"{name} must be {' or '.join(_words(hint))}, got {kind_name(value)}",
                                     where=function.__name__)  # fmt: skip
                if isinstance(value, str) and "\0" in value:
                    raise UsageError(f"{name} contains a NUL character", where=function.__name__,
                                     fix="remove the NUL character")  # fmt: skip
        return function(*args, **kwargs)

    return call


def checked_methods(cls: C) -> C:
    """A class whose public methods are `checked`."""
    for name, member in list(vars(cls).items()):
        if inspect.isfunction(member) and not name.startswith("_"):
            setattr(cls, name, checked(member))
    return cls


@functools.cache
def _evaluated(module: str, annotation: str) -> Any:
    import sys

    try:
        return eval(annotation, vars(sys.modules[module]))
    except NameError:  # a name that is imported for type checkers alone
        return Any


def _hint(function: Callable[..., Any], annotation: Any) -> Any:
    return _evaluated(function.__module__, annotation) if isinstance(annotation, str) else annotation


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a simple type (text, number, path, list, ...); True for any type that is not simple."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in typing.get_args(hint))
    if hint is type(None) or hint is None:
        return value is None
    if hint is str:
        return isinstance(value, str)
    if hint is bool:
        return isinstance(value, bool | np.bool_)
    if hint in (int, float):
        kind = numbers.Integral if hint is int else numbers.Real
        return isinstance(value, kind) and not isinstance(value, bool | np.bool_)
    if hint is Path:
        return isinstance(value, os.PathLike)
    if origin is Callable:
        return callable(value)
    if origin in (Mapping, Sequence):
        if not isinstance(value, origin) or isinstance(value, str | bytes):
            return False
        inner = typing.get_args(hint)
        return origin is Mapping or all(fits(one, inner[0]) for one in value)
    return True


def _words(hint: Any) -> list[str]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [word for one in typing.get_args(hint) for word in _words(one)]
    origin = typing.get_origin(hint) or hint
    inner = typing.get_args(hint)
    if origin is Sequence and inner and inner[0] is str:
        return ["a list of texts"]
    return [WORDS.get(origin, str(getattr(origin, "__name__", origin)))]


def kind_name(thing: Any) -> str:
    """The name of a value's type as messages have it: float, pandas.DataFrame, list of float."""
    kind = type(thing)
    package = kind.__module__.split(".")[0]
    name = kind.__qualname__ if package == "builtins" else f"{package}.{kind.__qualname__}"
    return f"{name} of {kind_name(thing[0])}" if isinstance(thing, list | tuple) and thing else name


def count_of(value: Any, name: str, least: int = 1) -> int:
    """A whole number from `least` to LARGEST_NUMBER. Raises UsageError for anything else, as fractions and booleans."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        count = operator.index(value)
    except TypeError:
        what = f"{name} must be a whole number, got {value!r}"
        raise UsageError(what, why=f"it is of type {kind_name(value)}") from None
    if count < least:
        raise UsageError(f"{name} must be at least {least}, got {count}")
    if count > LARGEST_NUMBER:
        raise UsageError(f"{name} must be at most {LARGEST_NUMBER:,}, got {count}")
    return count
