"""Which parameters Muon may train."""

from torch import nn

from bn_field_plugin.models.parameters import hidden_and_rest
from bn_field_plugin.nn import CoordinateMLP, CoordinateMLPConfig


def test_matrices_between_hidden_layers_are_apart_from_all_else_and_frozen_ones_in_neither() -> None:
    mlp = CoordinateMLP(CoordinateMLPConfig(width=8, depth=3))
    module = nn.ModuleList([mlp, nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)])
    hidden, rest = hidden_and_rest(module)
    assert [id(p) for p in hidden] == [id(linear.weight) for linear in mlp.linears[1:-1]]
    assert {id(p) for p in [*hidden, *rest]} == {id(p) for p in module.parameters() if p.requires_grad}
    assert len(hidden) + len(rest) == len({id(p) for p in [*hidden, *rest]})
