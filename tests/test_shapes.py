"""The checker of shapes in annotations, which tests/conftest.py puts to work."""

from __future__ import annotations

import importlib.util
import os
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from bn_field_plugin.nn.batch_moments import merged_moments
from tests import shapes
from tests.shapes import WrongShapeError


def product(x: Float[Tensor, "n d"], weight: Float[Tensor, "c d"] | None = None) -> Float[Tensor, "n c"]:
    return x if weight is None else x @ weight.T


def checked(function: Any) -> Any:
    module = ModuleType("here")
    vars(module).update(globals())
    return shapes.checked(function, module)


def test_equal_names_are_equal_sizes() -> None:
    x = torch.zeros(5, 3)
    assert checked(product)(x, torch.zeros(2, 3)).shape == (5, 2)
    with pytest.raises(WrongShapeError, match=r"product: weight should be .*c d.*, and is .*\[2, 4\]"):
        checked(product)(x, torch.zeros(2, 4))
    with pytest.raises(WrongShapeError, match="weight"):
        checked(product)(x, weight=torch.zeros(3))


def test_kinds_of_numbers_and_results_are_checked() -> None:
    with pytest.raises(WrongShapeError, match=r"torch\.int64"):
        checked(product)(torch.zeros(5, 3, dtype=torch.int64))
    with pytest.raises(WrongShapeError, match="the result"):
        checked(shortened)(torch.zeros(5))


def shortened(x: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    return x[1:]


def test_parts_of_a_result_are_checked() -> None:
    with pytest.raises(WrongShapeError):
        checked(shortened_in_part)(torch.zeros(3))


def shortened_in_part(x: Float[Tensor, " n"]) -> tuple[Float[Tensor, " n"], int]:
    return x[1:], 0


def test_random_numbers_of_the_tests_stay_as_they_are() -> None:
    def joined(parts: list[Float[Tensor, " n"]]) -> Tensor:
        return torch.cat(parts)

    state = random.getstate()
    checked(joined)([torch.zeros(3)] * 100)
    assert random.getstate() == state


def test_functions_without_shapes_stay_as_they_are() -> None:
    def plain(x: int, y: Tensor) -> str:
        return ""

    assert checked(plain) is plain


MODULE = """
from __future__ import annotations
from dataclasses import dataclass
from typing import NamedTuple
import torch
from jaxtyping import Float
from torch import Tensor

class Pair(NamedTuple):
    a: Float[Tensor, " n"]
    b: Float[Tensor, " n"]

@dataclass
class Box:
    low: Float[Tensor, " 3"]

    @property
    def doubled(self) -> Float[Tensor, " 6"]:
        return self.low

@torch.no_grad()
def total(x: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    return x.sum()
"""


def test_a_module_is_checked_as_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checked_module.py"
    path.write_text(MODULE)
    spec = importlib.util.spec_from_loader("checked_module", shapes.Loader("checked_module", str(path)))
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    three, four = torch.zeros(3), torch.zeros(4)
    assert module.total(torch.ones(2, 2)) == 4
    assert module.Pair(three, three).a is three
    for wrong in (
        lambda: module.total(three),
        lambda: module.Pair(three, four),
        lambda: module.Box(four),
        lambda: module.Box(three).doubled,
    ):
        with pytest.raises(WrongShapeError):
            wrong()


def test_shapes_of_the_packages_are_checked_while_tests_run() -> None:
    if os.environ.get("SHAPES") == "off":
        pytest.skip("SHAPES=off: no shapes are checked")
    blocks = torch.zeros(2, 3)
    merged_moments(blocks, blocks, 8, 4)
    with pytest.raises(WrongShapeError, match="squares"):
        merged_moments(blocks, torch.zeros(2, 4), 8, 4)


def test_what_is_loaded_already_cannot_be_checked() -> None:
    with pytest.raises(RuntimeError, match="afterwards"):
        shapes.install()
