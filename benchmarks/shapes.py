"""Shapes of the benchmarks: meshes of a folder, or the built-in one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from standalone.shape.inputs import ShapeInput, load_shape


def load_shapes(paths: Sequence[Path]) -> list[ShapeInput]:
    """The shapes of files; without any, the built-in one."""
    return [load_shape(path) for path in paths] or [load_shape(None)]


def names_of(shapes: Sequence[ShapeInput]) -> str:
    """Names for a table's command and facts."""
    return " ".join(shape.name for shape in shapes)
