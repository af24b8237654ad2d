"""Training by several processes that nerfstudio launches, one for each GPU; each takes a share of a batch."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from nerfstudio.configs.base_config import MachineConfig

from bn_field_plugin.errors import UserError


def rays_per_process(rays: int, world_size: int) -> int:
    """A process's share of the rays of a batch.

    nerfstudio lets every process draw `rays`, so that the whole batch grows with the number of GPUs. Here
    `rays` counts those of all processes together: equal options train alike on any number of GPUs.

    Args:
        rays: number of rays of one training step, over all processes.
        world_size: number of processes.

    Raises:
        UserError: the shares would not be equal; the mean over processes would then not be the mean over
            rays.
    """
    if rays % world_size:
        below = rays - rays % world_size
        choices = f"{below} or {below + world_size}" if below else f"{world_size}"
        raise UserError(
            f"--pipeline.datamanager.train-num-rays-per-batch {rays} cannot be shared evenly by {world_size} "
            f"processes: choose {choices}, for instance, or another --machine.num-devices"
        )
    return rays // world_size


def check_machines(machine: MachineConfig, rays: int | None) -> None:
    """Look for mistakes before nerfstudio launches processes; afterwards, a mistake would end in a traceback.

    Args:
        machine: the options of the launch.
        rays: number of rays of one training step; None where the method has no such option.

    Raises:
        UserError: there are not enough GPUs, no address to meet at, or rays that cannot be shared evenly.
    """
    world_size = machine.num_devices * machine.num_machines
    if world_size <= 1:
        return
    if rays is not None:
        rays_per_process(rays, world_size)
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if machine.device_type != "cuda" or devices == 0:
        raise UserError(
            f"--machine.num-devices {machine.num_devices} on {machine.num_machines} machine(s): nerfstudio "
            "launches several processes on CUDA only; train with one process here"
        )
    if machine.num_devices > devices:
        raise UserError(
            f"--machine.num-devices {machine.num_devices}: this machine has {devices}, so at most that many"
        )
    if machine.num_machines > 1 and machine.dist_url == "auto":
        raise UserError(
            "--machine.num-machines needs an address of the first machine that all can reach: "
            "--machine.dist-url tcp://HOST:PORT"
        )


@contextmanager
def same_order_of_images(world_size: int) -> Iterator[None]:
    """Let all processes shuffle their images alike, so that equal pixel indices mean equal rays.

    nerfstudio seeds each process differently. With one process, nothing changes.
    """
    state = random.getstate()
    if world_size > 1:
        random.seed(0)
    try:
        yield
    finally:
        if world_size > 1:
            random.setstate(state)
