"""First inputs of modules, and points of which no two are equal."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bn_field_plugin.ntk.recording import distinct_rows, first_inputs


def test_the_first_input_of_each_call_is_noted_in_order_and_the_modules_are_left_as_they_were() -> None:
    modules = {name: nn.Linear(2, 2) for name in ("never", "late", "early")}
    x = torch.rand(3, 2)
    with first_inputs(modules) as inputs:
        y = modules["early"].forward(x)  # calls of `forward` by name count too
        z = modules["late"](y)
        modules["early"](z)
    assert list(inputs) == ["early", "late"]
    assert inputs["early"] is x and inputs["late"] is y
    with pytest.raises(RuntimeError), first_inputs(modules):
        modules["late"](torch.rand(3, 5))
    assert all("forward" not in vars(module) for module in modules.values())


def test_drawn_points_are_distinct_and_cover_all_where_there_are_few() -> None:
    values = torch.arange(6.0)[:, None].repeat(1, 2)
    points = values.repeat(4, 1)[torch.randperm(24, generator=torch.Generator().manual_seed(1))]
    for seed in range(20):
        drawn = points[distinct_rows(points, 100, torch.Generator().manual_seed(seed))]
        assert torch.equal(drawn.unique(dim=0), values) and len(drawn) == 6
        few = distinct_rows(points, 4, torch.Generator().manual_seed(seed))
        assert len(few) == 4 == len(points[few].unique(dim=0))


def test_of_no_points_none_are_drawn() -> None:
    assert distinct_rows(torch.empty(0, 3), 4, torch.Generator()).tolist() == []
