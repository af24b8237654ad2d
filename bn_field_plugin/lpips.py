"""Where LPIPS finds its network: nothing here ever downloads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

LPIPS_WEIGHTS = "alexnet-owt-7be5be79.pth"
"""File of torchvision's AlexNet in torch's hub folder, which LPIPS is computed with."""


def has_lpips() -> bool:
    """Whether AlexNet's weights lie in torch's hub folder."""
    return (Path(torch.hub.get_dir()) / "checkpoints" / LPIPS_WEIGHTS).is_file()


@contextmanager
def without_lpips() -> Iterator[None]:
    """Let nerfstudio's models be made without LPIPS: an empty module stands in its place.

    They make it, each in its constructor, and thereby fetch AlexNet and stop where there is no network.
    """
    import torchmetrics.image.lpip as source  # where they import it from, when they are made

    original = source.LearnedPerceptualImagePatchSimilarity
    source.LearnedPerceptualImagePatchSimilarity = nn.Identity  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        source.LearnedPerceptualImagePatchSimilarity = original  # type: ignore[misc]
