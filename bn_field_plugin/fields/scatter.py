"""Values of the samples inside a scene, put back among all samples."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor


def scatter(values: Float[Tensor, "n c"], inside: Bool[Tensor, "*batch"]) -> Float[Tensor, "*batch c"]:
    """Spread the values of the samples inside a scene over all samples; those outside get zeros."""
    out = values.new_zeros((*inside.shape, values.shape[-1]))
    out[inside] = values
    return out
