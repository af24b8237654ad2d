"""Fit a picture with and without batch norm: python examples/fit_picture.py [photo.png] --steps 300.

Both networks, 10 hidden layers of 28 units on bare coordinates, see all pixels in each step of Adam, for as
many steps and at the same learning rate. Without a picture, a synthetic one with fine detail is fitted.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bn_field_plugin import CoordinateMLP, CoordinateMLPConfig, calibrate
from bn_field_plugin.nn import NormName


def picture(path: Path | None, side: int) -> torch.Tensor:
    """Colours in [0, 1], of shape [height, width, 3], with the longer side at most `side` pixels."""
    if path is not None:
        image = Image.open(path).convert("RGB")
        image.thumbnail((side, side))
        return torch.from_numpy(np.asarray(image).copy()).float() / 255
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    rings = torch.sin(20 * (x**2 + y**2))
    return torch.stack([rings, torch.sin(12 * x) * torch.sin(12 * y), rings * x], dim=-1) / 2 + 0.5


def fit(image: torch.Tensor, norm: NormName, steps: int, lr: float = 1e-2) -> float:
    """Train a network on a picture, and return its PSNR in dB."""
    height, width, _ = image.shape
    rows = (torch.arange(height) + 0.5) * 2 / height - 1
    columns = (torch.arange(width) + 0.5) * 2 / width - 1
    points = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(-1, 2)
    colours = image.reshape(-1, 3)

    torch.manual_seed(0)
    mlp = CoordinateMLP(CoordinateMLPConfig(in_dim=2, out_dim=3, width=28, depth=10, norm=norm))
    optimizer = torch.optim.Adam(mlp.parameters(), lr)
    for _ in range(steps):
        loss = (mlp(points) - colours).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    calibrate(mlp, [points])  # without a norm, there is nothing to do
    with torch.no_grad():
        error = (mlp.eval()(points).clamp(0, 1) - colours).square().mean()
    return float(-10 * torch.log10(error))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", type=Path, nargs="?")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--side", type=int, default=128, help="longer side in pixels")
    options = parser.parse_args()
    image = picture(options.picture, options.side)
    for norm in ("none", "batch"):
        print(f"norm {norm}: {fit(image, norm, options.steps):.2f} dB after {options.steps} steps")
