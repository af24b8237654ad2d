"""Groups of parameters: which of them Muon may train."""

from __future__ import annotations

from torch import nn
from torch.nn import Parameter

from bn_field_plugin.nn import CoordinateMLP
from bn_field_plugin.nn.muon import hidden_matrices


def hidden_and_rest(module: nn.Module) -> tuple[list[Parameter], list[Parameter]]:
    """Trained parameters of a module: matrices between hidden layers (for Muon), and others (for Adam)."""
    mlps = [m for m in module.modules() if isinstance(m, CoordinateMLP)]
    hidden = {id(matrix) for mlp in mlps for matrix in hidden_matrices(mlp)}
    trained = [p for p in module.parameters() if p.requires_grad]
    return [p for p in trained if id(p) in hidden], [p for p in trained if id(p) not in hidden]
