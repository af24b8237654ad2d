"""A signed distance in 3D by a hash grid and a BN-MLP after it: python examples/hash_grid_3d.py --steps 300.

On a CPU the grid's loops are compiled by numba, which takes some seconds the first time.
"""

import argparse

import torch

from bn_field_plugin import CoordinateMLP, CoordinateMLPConfig, calibrate, fold_norm
from bn_field_plugin.nn import HashGridEncodingConfig, value_and_gradient


def torus(x: torch.Tensor) -> torch.Tensor:
    """Signed distance of points [n, 3] to a torus around the z axis: [n, 1], negative inside."""
    ring = torch.linalg.vector_norm(x[:, :2], dim=-1) - 0.6
    return torch.hypot(ring, x[:, 2])[:, None] - 0.25


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--levels", type=int, default=6)
    options = parser.parse_args()

    torch.manual_seed(0)
    grid = HashGridEncodingConfig(
        num_levels=options.levels, base_resolution=4, finest_resolution=32, init_scale=0.1
    )
    mlp = CoordinateMLP(CoordinateMLPConfig(in_dim=3, out_dim=1, width=32, depth=2, encoding=grid))
    optimizer = torch.optim.Adam(mlp.parameters(), lr=2e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    for _ in range(options.steps):
        points = torch.rand(4096, 3) * 2 - 1
        loss = (mlp(points) - torus(points)).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    calibrate(mlp, [torch.rand(16384, 3) * 2 - 1])

    test = torch.rand(20000, 3) * 2 - 1
    with torch.no_grad():
        distance = fold_norm(mlp)(test)
    print(f"mean error of the distance: {float((distance - torus(test)).abs().mean()):.4f}")
    inside, truth = distance < 0, torus(test) < 0
    print(f"IoU of the inside: {float((inside & truth).sum() / (inside | truth).sum()):.3f}")

    # Normals are gradients by the point. value_and_gradient takes them with statistics held, so that no point
    # sees another; autograd through a training pass would not.
    near = test[torus(test).squeeze(-1).abs() < 0.05].requires_grad_()
    (normals,) = torch.autograd.grad(torus(near).sum(), near)
    with torch.no_grad():
        _, gradient = value_and_gradient(mlp, near)
    cosine = torch.nn.functional.cosine_similarity(gradient, normals, dim=-1)
    print(f"cosine of normals near the surface: {float(cosine.mean()):.3f}")
