"""How torch's `update_bn` finds our norms."""

from __future__ import annotations

from torch.nn.modules.batchnorm import _BatchNorm


class UpdateBnSign(_BatchNorm):
    """A batch norm that a norm of ours has in it for torch's `update_bn` to find, and that is never called.

    `update_bn` resets each of torch's batch norms and takes its momentum away for a pass over the data,
    without gradients. Ours are told by what it does to this one. They are none of torch's themselves:
    other tools would put torch's in their place (`convert_sync_batchnorm`) or take their statistics away.
    """

    def __init__(self) -> None:
        super().__init__(1, affine=False, track_running_stats=False)
        self.is_reset = False

    def reset_running_stats(self) -> None:
        """Note that statistics are to begin anew."""
        self.is_reset = True

    @property
    def is_updating(self) -> bool:
        """Whether `update_bn` is at work."""
        return self.momentum is None
