"""What all norms are: a learned scale and shift of each feature."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn.scripting import recorded


class Norm(nn.Module):
    """Base: a learned scale and shift of each feature after some normalisation.

    Args:
        num_features: number of features C.
        eps: added to the variance, above 0.
        device: where the parameters are; torch's default if None.
        dtype: of the parameters; torch's default if None.

    Raises:
        UserError: an eps that is not above 0.
    """

    title: ClassVar[str] = "norm"
    """Short name in figures and tables."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not eps > 0:
            raise UserError(f"norm_eps is {eps}: it must be above 0, or constant features divide by 0")
        self.num_features = num_features
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(num_features, device=device, dtype=dtype))

    def __prepare_scriptable__(self) -> nn.Module:
        return recorded(self, self.num_features)

    def extra_repr(self) -> str:
        """Show the size and eps."""
        return f"{self.num_features}, eps={self.eps}"
