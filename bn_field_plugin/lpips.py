"""Where LPIPS finds its network: nothing here ever downloads it."""

from __future__ import annotations

from pathlib import Path

import torch

LPIPS_WEIGHTS = "alexnet-owt-7be5be79.pth"
"""File of torchvision's AlexNet in torch's hub folder, which LPIPS is computed with."""


def has_lpips() -> bool:
    """Whether AlexNet's weights lie in torch's hub folder."""
    return (Path(torch.hub.get_dir()) / "checkpoints" / LPIPS_WEIGHTS).is_file()
