"""The spectrum of your own module's neural tangent kernel: python examples/spectrum.py --side 16.

The kernel is J J^T, with J the Jacobian of all outputs in all parameters. With batch norm an output depends
on every point of the batch: `batch` takes that coupling into account, `frozen` holds the statistics.
"""

import argparse

import torch
from torch import nn

from bn_field_plugin.ntk import grid, spectrum, statistics_of


def network(with_norm: bool, width: int = 64, depth: int = 3) -> nn.Sequential:
    """A plain ReLU network of two coordinates; torch's own batch norm stands before each activation."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for index in range(depth):
        layers.append(nn.Linear(2 if index == 0 else width, width))
        if with_norm:
            layers.append(nn.BatchNorm1d(width))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.Linear(width, 1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=16, help="points along each side of a grid on [-1, 1]^2")
    options = parser.parse_args()

    points = grid(options.side)
    print(f"{len(points)} points; shares are of the trace")
    for with_norm, statistics in ((False, "batch"), (True, "batch"), (True, "frozen")):
        found = spectrum(network(with_norm), points, statistics=statistics)
        numbers = statistics_of(found.values)
        name = f"batch norm, {statistics}" if with_norm else "no norm"
        print(
            f"{name:18} largest {numbers.top_share:6.1%}  outside the top tenth {numbers.tail_share:8.4%}  "
            f"median over mean {numbers.median_to_mean:.1e}"
        )
