"""Where LPIPS finds its network: nothing here ever downloads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

LPIPS_WEIGHTS = "alexnet-owt-7be5be79.pth"
"""Name, in torch's hub folder, of the file of torchvision's AlexNet, with which LPIPS is computed."""


def has_lpips() -> bool:
    """Whether AlexNet's weights lie in torch's hub folder."""
    return (Path(torch.hub.get_dir()) / "checkpoints" / LPIPS_WEIGHTS).is_file()


@contextmanager
def without_lpips() -> Iterator[None]:
    """Let nerfstudio's models be made without LPIPS: an empty module stands in its place.

    The constructors of nerfstudio's models make LPIPS. That downloads AlexNet, and fails without a network.
    """
    import torchmetrics.image.lpip as source  # the models import LPIPS from here when they are made

    original = source.LearnedPerceptualImagePatchSimilarity
    source.LearnedPerceptualImagePatchSimilarity = nn.Identity  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        source.LearnedPerceptualImagePatchSimilarity = original  # type: ignore[misc]
