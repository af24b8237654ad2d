"""Layer norm: each sample over its features."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad

from bn_field_plugin.nn.norms.norm import Norm


def _is_transformed() -> bool:
    """Whether a transform of `torch.func` or forward mode is at work, beyond what torch.compile traces."""
    if torch.compiler.is_compiling():
        return False
    active: bool = torch._C._are_functorch_transforms_active()
    return active or forward_ad._current_level >= 0


class LayerNorm(Norm):
    """Normalises each sample over its features; no statistics are kept.

    Under `torch.func` and forward mode it is made of plain operations: torch 2.14's own layer norm has wrong
    second derivatives there.
    """

    title: ClassVar[str] = "LN"

    def forward(self, x: Float[Tensor, "*batch c"]) -> Float[Tensor, "*batch c"]:
        """Normalise each sample."""
        if _is_transformed():
            var, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
            return (x - mean) * torch.rsqrt(var + self.eps) * self.weight + self.bias
        return F.layer_norm(x, (self.num_features,), self.weight, self.bias, self.eps)
