"""How torch's `update_bn` finds our norms."""

from __future__ import annotations

from torch.nn.modules.batchnorm import _BatchNorm


class UpdateBnSign(_BatchNorm):
    """A batch norm that each of our norms contains for torch's `update_bn` to find. It is never called.

    `update_bn` resets every batch norm of torch's, and sets its momentum to None while it passes over the
    data without gradients. By what it does to this batch norm, the norm around it knows that it is at work.
    Our norms do not derive from torch's themselves, because other tools would then replace them
    (`convert_sync_batchnorm`) or take their statistics away.
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
