"""Global norm (arXiv 2407.17834): samples and features together."""

from __future__ import annotations

from typing import ClassVar

import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from bn_field_plugin.nn.batch_moments import BatchMoments, batch_moments
from bn_field_plugin.nn.norms.running_norm import AffineNorm


class GlobalNorm(AffineNorm):
    """Normalises with one mean and one variance, over samples and features together."""

    title: ClassVar[str] = "GN"

    def _num_statistics(self) -> int:
        return 1

    def _moments(self, x: Float[Tensor, "n c"], group: dist.ProcessGroup | None) -> BatchMoments:
        # All n * c entries form one column, whose sums are joined over processes as those of any column.
        return batch_moments(x.reshape(-1, 1), group)
