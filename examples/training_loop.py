"""Batch norm in a training loop of your own: train, make the statistics exact, fold the norm away.

python examples/training_loop.py --steps 500
"""

import argparse

import torch

from bn_field_plugin import CoordinateMLP, CoordinateMLPConfig, calibrate, fold_norm
from bn_field_plugin.nn import PositionalEncodingConfig


def target(x: torch.Tensor) -> torch.Tensor:
    """A function of points in [-1, 1]^2 with a coarse and a fine part."""
    return torch.sin(3 * x[:, :1]) + 0.3 * torch.sin(25 * x[:, 1:])


def error(network: torch.nn.Module, points: torch.Tensor) -> float:
    """Root mean square error of a network in evaluation."""
    with torch.no_grad():
        return float((network.eval()(points) - target(points)).square().mean().sqrt())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500)
    options = parser.parse_args()

    torch.manual_seed(0)
    config = CoordinateMLPConfig(in_dim=2, out_dim=1, encoding=PositionalEncodingConfig(4), norm="batch")
    mlp = CoordinateMLP(config)
    optimizer = torch.optim.Adam(mlp.parameters(), lr=5e-3)
    mlp.train()
    for _ in range(options.steps):
        points = torch.rand(1024, 2) * 2 - 1
        # A pass with gradients normalises with the statistics of these 1,024 points.
        loss = (mlp(points) - target(points)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    test = torch.rand(4096, 2) * 2 - 1
    print(f"error with running averages:   {error(mlp, test):.4f}")

    # Running averages lag behind the weights. Exact statistics over points as in training replace them.
    calibrate(mlp, [torch.rand(4096, 2) * 2 - 1 for _ in range(4)])
    print(f"error with exact statistics:   {error(mlp, test):.4f}")

    # In evaluation the norm is a scale and a shift, which fold into the weights: same function, no norm.
    folded = fold_norm(mlp)
    difference = (folded(test) - mlp.eval()(test)).detach().abs().max()
    print(f"folded network (norm {folded.config.norm}) differs by at most {float(difference):.1e}")
