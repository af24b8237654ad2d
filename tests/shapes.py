"""Checks the shapes in annotations while tests run (tests/conftest.py installs it).

Each function of our modules whose annotations hold shapes, as `Float[Tensor, "n c"]`, is wrapped: at each
call, its arguments and its result are compared with them, and dimensions of the same name have to be equal.
Dataclasses and named tuples are checked when they are made.

jaxtyping has an import hook for this, which does not fit here: it wraps functions without shapes too, and its
option for pytest does nothing in the workers of pytest-xdist.
"""

from __future__ import annotations

import functools
import inspect
import random
import sys
import typing
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any, NamedTuple

import torch
from beartype.door import is_bearable
from jaxtyping import AbstractArray, jaxtyped

PACKAGES = ("bn_field_plugin", "standalone")
"""Packages whose functions are checked."""


class WrongShapeError(TypeError):
    """A value is not of the shape, or of the kind of numbers, that an annotation says."""


def install() -> None:
    """Check the functions of all modules of `PACKAGES`, none of which may be loaded yet.

    Raises:
        RuntimeError: one is.
    """
    if not sys.modules.keys().isdisjoint(PACKAGES):
        raise RuntimeError("shapes can be checked only of modules that are loaded afterwards")
    sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds our modules as Python does, and has them checked."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] not in PACKAGES:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = Loader(spec.loader.name, spec.loader.path)
        return spec


class Loader(SourceFileLoader):
    """Loads a module, then wraps what has shapes in it."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        for name, value in list(vars(module).items()):
            if getattr(value, "__module__", None) != module.__name__:
                continue
            if inspect.isclass(value):
                _check_methods(value, module)
            elif inspect.isfunction(value):
                setattr(module, name, checked(value, module))


def _check_methods(kind: type, module: ModuleType) -> None:
    """Wrap the methods that a class defines, and its properties."""
    for name, value in list(vars(kind).items()):
        if inspect.isfunction(value):
            new: Any = checked(value, module)
        elif isinstance(value, staticmethod | classmethod):
            new = type(value)(checked(value.__func__, module))
        elif isinstance(value, property) and value.fget is not None:
            new = property(checked(value.fget, module), value.fset, value.fdel, value.__doc__)
        else:
            continue
        setattr(kind, name, new)


def checked(function: Callable[..., Any], module: ModuleType) -> Callable[..., Any]:
    """The function with its shapes checked at each call; the function itself where it has none.

    Nothing is checked under torch.compile and torch.jit.trace, where sizes are symbols.

    Args:
        function: a function, or a method.
        module: where it is defined, whose names its annotations use.
    """
    if not getattr(function, "__annotations__", None) or inspect.isgeneratorfunction(function):
        return function
    plan = _plan(function, vars(typing) | vars(module))
    if not plan.parameters and plan.result is None:
        return function

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return function(*args, **kwargs)
        with jaxtyped("context"):
            for position, name, hint in plan.parameters:
                if position < len(args):
                    plan.check(name, args[position], hint)
                elif name in kwargs:
                    plan.check(name, kwargs[name], hint)
            result = function(*args, **kwargs)
            if plan.result is not None:
                plan.check("the result", result, plan.result)
        return result

    return call


class _Parameter(NamedTuple):
    """A parameter whose annotation has a shape."""

    position: int
    """Where it stands among the arguments."""
    name: str
    hint: Any
    """Its annotation."""


class _Plan(NamedTuple):
    """What is checked at a call of a function."""

    function: str
    """Name of the function."""
    parameters: list[_Parameter]
    result: Any
    """Annotation of the result; None where it has no shape."""

    def check(self, name: str, value: Any, hint: Any) -> None:
        """Compare a value with an annotation."""
        if not (isinstance(value, hint) if inspect.isclass(hint) else _is_of(value, hint)):
            raise WrongShapeError(f"{self.function}: {name} should be {_words(hint)}, and is {_words(value)}")


def _is_of(value: Any, hint: Any) -> bool:
    """Whether a value is of a kind that has parts: a tuple, a list, one of several kinds, ..."""
    state = random.getstate()  # beartype looks at one item of a list, which it draws
    try:
        return is_bearable(value, hint)
    finally:
        random.setstate(state)


def _plan(function: Callable[..., Any], names: dict[str, Any]) -> _Plan:
    """Find the annotations of a function that have shapes; `names` are those that they may use."""
    parameters = []
    for position, parameter in enumerate(inspect.signature(function).parameters.values()):
        hint = _evaluated(parameter.annotation, names)
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) and _has_shape(hint):
            place = sys.maxsize if parameter.kind is parameter.KEYWORD_ONLY else position
            parameters.append(_Parameter(place, parameter.name, hint))
    result = _evaluated(function.__annotations__.get("return"), names)
    return _Plan(function.__qualname__, parameters, result if _has_shape(result) else None)


def _evaluated(annotation: Any, names: dict[str, Any]) -> Any:
    """An annotation that may be written as text; None where it has a name that type checkers alone import."""
    text = getattr(annotation, "__forward_arg__", annotation)
    try:
        return eval(text, names) if isinstance(text, str) else text
    except NameError:
        return None


def _has_shape(hint: Any) -> bool:
    """Whether an annotation, or a part of it, is one of jaxtyping."""
    if inspect.isclass(hint) and issubclass(hint, AbstractArray):
        return True
    return any(_has_shape(part) for part in typing.get_args(hint))


def _words(value: Any) -> str:
    """An annotation, or the shape of a value, for a message."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{type(value).__name__} {list(value.shape)} of {value.dtype}"
    if isinstance(value, tuple | list):
        return f"({', '.join(_words(part) for part in value)})"
    return value.__name__ if inspect.isclass(value) else repr(value)
