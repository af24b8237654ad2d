"""Batch norm's share of a training step of bn-nerfacto: the step with it over the same step without norm.

Both sides are bn-nerfacto in one process, on the same data, with the same options but the norm; each is the
trainer's whole step: rays, both proposal networks, the field, the losses, the gradients, Adam. They take
turns, so that whatever slows the machine down slows both; a round's ratio is that of its two medians.
"""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from benchmarks import RESULTS
from bn_field_plugin.errors import exit_on_user_error
from bn_field_plugin.nn import NormName
from standalone.report import Cell, machine_facts, write_table

TARGET = 0.10
"""Largest share that counts as met."""

WARMUP = 3
"""Number of first steps whose time does not count."""


@dataclass(frozen=True)
class Share:
    """Measure the training step of bn-nerfacto with batch norm and without norm."""

    data: Path
    """Blender-format scene, for instance the lego scene at 200x200."""
    rays: int = 1024
    """Rays in a step."""
    steps: int = 5
    """Steps of each side in a round."""
    rounds: int = 12
    """Number of rounds, in each of which both sides take steps."""
    proposal_norm: NormName = "none"
    """Norm of the proposal networks on the side with batch norm; the default is the method's own."""
    threads: int = 2
    """Threads of torch."""
    seed: int = 0
    """Seed of both sides."""
    output_dir: Path = Path("outputs/bn_share")
    """Folder that nerfstudio's trainers ask for."""
    profile: bool = False
    """Also print where the time of three steps goes, on either side."""
    write_here: bool = False
    """Leave the table in the output folder, not in the repository: for a trial."""


def main(config: Share) -> None:
    """Measure, and write benchmarks/results/bn_share_of_nerfacto."""
    torch.set_num_threads(config.threads)
    sides = {"none": trainer(config, "none", "none"), "batch": trainer(config, "batch", config.proposal_norm)}
    step = 0
    for _ in range(WARMUP):
        for side in sides.values():
            side.train_iteration(step)
        step += 1
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(config.rounds):
        order = list(sides) if turn % 2 == 0 else list(reversed(sides))
        for name in order:
            times[name].append(statistics.median(timed_steps(sides[name], step, config.steps)))
        step += config.steps
    ratios = [batch / none for batch, none in zip(times["batch"], times["none"], strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    rows: list[dict[str, Cell]] = [
        {"norm": name, "ms a step": round(1e3 * statistics.median(values), 1)}
        for name, values in times.items()
    ]
    share = statistics.median(ratios) - 1
    verdict = "met" if share <= TARGET else "missed"
    notes = [
        f"Batch norm adds {share:.1%} to a step (quartiles over rounds {low - 1:.1%} to {high - 1:.1%}); "
        f"target at most {TARGET:.0%}: {verdict}.",
    ]
    facts: dict[str, Cell] = {
        **machine_facts(),
        "scene": config.data.name,
        "rays in a step": config.rays,
        "rounds": config.rounds,
        "steps in a round": config.steps,
        "proposal norm": config.proposal_norm,
        "seed": config.seed,
    }
    write_table(
        "bn_share_of_nerfacto",
        "Batch norm's share of a training step of bn-nerfacto",
        f"python -m benchmarks.bn_share_of_nerfacto --data {config.data.name}",
        rows,
        facts,
        notes,
        folder=config.output_dir if config.write_here else RESULTS,
    )
    if config.profile:
        for name, side in sides.items():
            print(f"norm {name}:\n{profile(side, step)}")


def trainer(config: Share, norm: NormName, proposal_norm: NormName) -> Any:
    """nerfstudio's trainer of bn-nerfacto, set up to take steps."""
    from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig

    from bn_field_plugin.method_configs import bn_nerfacto

    method: Any = copy.deepcopy(bn_nerfacto.config)
    method.pipeline.datamanager.dataparser = BlenderDataParserConfig(data=config.data)
    method.pipeline.datamanager.train_num_rays_per_batch = config.rays
    method.pipeline.model.norm = norm
    method.pipeline.model.proposal_norm = proposal_norm
    method.pipeline.model.implementation = "torch"
    method.output_dir, method.experiment_name, method.timestamp = config.output_dir, norm, "0"
    method.machine.seed, method.vis = config.seed, "tensorboard"
    torch.manual_seed(config.seed)
    made = method.setup(local_rank=0, world_size=1)
    made.setup()
    made.pipeline.train()
    return made


def timed_steps(side: Any, first: int, count: int) -> list[float]:
    """Seconds of each of the next steps of a trainer."""
    seconds = []
    for step in range(first, first + count):
        start = time.perf_counter()
        side.train_iteration(step)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds


def profile(side: Any, first: int) -> str:
    """Print which operators take the time of three steps."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        timed_steps(side, first, 3)
    return str(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=20))


if __name__ == "__main__":
    with exit_on_user_error():
        main(tyro.cli(Share))
