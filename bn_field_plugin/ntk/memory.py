"""Which matrices of a spectrum fit into memory, and which route to take where one does not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from bn_field_plugin.errors import UserError, require

# Functions of this folder import these when they are called. Whoever lacks them is told at the first import.
require("bn_field_plugin.ntk", ("psutil", "scipy"), "ntk")

Route = Literal["kernel", "gram", "matrix-free"]
"""Routes to a spectrum. `kernel`: from J J^T; `gram`: from J^T J; `matrix-free`: by products with J and
J^T."""

WORKING_COPIES = 3
"""Number of matrices of the kernel's size that are in memory while it is made and diagonalised."""


def available_bytes(device: torch.device | str = "cpu") -> int:
    """Bytes that this process may still take on a device."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    free: int = psutil.virtual_memory().available
    limit, used = (_number(Path("/sys/fs/cgroup") / name) for name in ("memory.max", "memory.current"))
    return free if limit is None or used is None else min(free, max(limit - used, 0))


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


@dataclass(frozen=True)
class Need:
    """Sizes of a spectrum, and the bytes that its routes take."""

    outputs: int
    """Number of points times number of outputs."""
    parameters: int
    """Number of parameters."""
    extra: int = 0
    """Bytes that every route needs beside its matrix."""
    itemsize: int = 8
    """Bytes of one number."""

    def bytes(self, route: Route) -> int:
        """Bytes that a route takes, to leading order."""
        vectors = 64 * (self.outputs + self.parameters) * self.itemsize
        side = {"kernel": self.outputs, "gram": self.parameters, "matrix-free": 0}[route]
        return self.extra + vectors + WORKING_COPIES * side**2 * self.itemsize


def choose_route(need: Need, wanted: Route | Literal["auto"], free: int) -> Route:
    """The route that is asked for; for "auto" the cheapest exact one that fits, or else the matrix-free one.

    Raises:
        UserError: the wanted route does not fit; the message says which route would.
    """
    exact: Route = "kernel" if need.outputs <= need.parameters else "gram"
    if wanted == "auto":
        return exact if need.bytes(exact) <= free else "matrix-free"
    if need.bytes(wanted) <= free:
        return wanted
    fitting: list[Route] = ["kernel", "gram", "matrix-free"]
    fitting = [route for route in fitting if need.bytes(route) <= free]
    most = int((max(free - need.extra, 0) / (WORKING_COPIES * need.itemsize)) ** 0.5)
    advice = f"take --route {fitting[0]}" if fitting else "take fewer points or a smaller network"
    if wanted == "kernel":
        advice += f", or at most {most:,} points x outputs"
    raise UserError(
        f"the route {wanted} over {need.outputs:,} points x outputs and {need.parameters:,} parameters needs "
        f"{_text(need.bytes(wanted))}, and {_text(free)} are free: {advice}"
    )


def _text(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
