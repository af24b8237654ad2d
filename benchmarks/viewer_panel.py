"""How much training time the viewer's panel takes: bn-nerf-small on the demo scene, with it and without.

Runs with and without the panel take turns in one process. The viewer runs in both and no browser is open, so
that the panel is measured and not the pictures. The command takes some ten minutes on two cores.
"""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks import RESULTS
from benchmarks.serving import free_port
from standalone.report import Cell, machine_facts, write_table

TARGET = 0.02
"""Share of training time that the panel may take."""


@dataclass(frozen=True)
class ViewerPanel:
    """Measure what the panel costs."""

    steps: int = 300
    """Training steps of each run."""
    rounds: int = 3
    """Runs with the panel, and as many without."""
    seed: int = 0
    """Seed of all runs."""
    output_dir: Path = Path("outputs/viewer_panel")
    """Folder of the runs; the table lands in benchmarks/results."""


@dataclass(frozen=True)
class Run:
    """One training run."""

    seconds: float
    """Seconds from the first step to the last."""
    spent: float
    """Seconds that the panel took, by its own clock."""
    looks: int
    """How often the panel computed its numbers."""


def main(config: ViewerPanel) -> None:
    """Run, and write the table."""
    runs: dict[str, list[Run]] = {"without": [], "with": []}
    for _ in range(config.rounds):
        for name, share in (("without", 0.0), ("with", TARGET)):
            runs[name].append(train(config, share))
            print(name, runs[name][-1], flush=True)
    rows: list[dict[str, Cell]] = [
        {
            "panel": name,
            "round": index,
            "s": round(run.seconds, 2),
            "ms a step": round(1000 * run.seconds / config.steps, 1),
            "looks": run.looks,
            "ms a look": round(1000 * run.spent / run.looks, 1) if run.looks else "",
            "share of the time beside it": f"{run.spent / (run.seconds - run.spent):.2%}",
        }
        for name, found in runs.items()
        for index, run in enumerate(found)
    ]
    share = max(run.spent / (run.seconds - run.spent) for run in runs["with"])
    pairs = [w.seconds / wo.seconds - 1 for w, wo in zip(runs["with"], runs["without"], strict=True)]
    notes = [
        f"Largest share of a run: {share:.2%}; target at most {TARGET:.0%}.",
        f"Whole runs with the panel over runs without: median {statistics.median(pairs):+.1%}, from "
        f"{min(pairs):+.1%} to {max(pairs):+.1%}; what the machine does beside them is in it.",
    ]
    facts = {**machine_facts(), "steps": config.steps, "seed": config.seed}
    title = "The viewer's panel and training time, bn-nerf-small on the demo scene"
    command = "python -m benchmarks.viewer_panel"
    write_table("viewer_panel", title, command, rows, facts, notes, folder=RESULTS)


def train(config: ViewerPanel, share: float) -> Run:
    """Train once with the viewer up.

    Args:
        config: the benchmark.
        share: of training time for the panel.
    """
    settings = settings_of(config.steps, config.seed, config.output_dir, free_port())
    settings.viewer.quit_on_train_completion = True
    settings.pipeline.panel_share = share
    settings.save_config()
    trainer = settings.setup(local_rank=0, world_size=1)
    trainer.setup()
    starts = []
    step = trainer.pipeline.get_train_loss_dict

    def timed(*arguments: Any, **options: Any) -> Any:
        starts.append(time.perf_counter())
        return step(*arguments, **options)

    trainer.pipeline.get_train_loss_dict = timed
    trainer.train()
    trainer.shutdown()
    budget = trainer.pipeline.norm_panel.budget
    return Run(starts[-1] - starts[0], budget.spent, budget.times)


def settings_of(steps: int, seed: int, output_dir: Path, port: int) -> Any:
    """Settings of bn-nerf-small on the demo scene with the viewer, saved once at its end.

    Args:
        steps: of training.
        seed: of the run.
        output_dir: where it goes.
        port: of the viewer.
    """
    from bn_field_plugin.data.demo_dataparser import BNDemoDataParserConfig
    from bn_field_plugin.method_configs import bn_nerf_small

    settings: Any = copy.deepcopy(bn_nerf_small.config)
    settings.vis, settings.output_dir = "viewer", output_dir
    settings.max_num_iterations, settings.machine.seed = steps, seed
    settings.steps_per_save = 10**9
    settings.viewer.websocket_port, settings.viewer.websocket_host = port, "127.0.0.1"
    settings.pipeline.datamanager.dataparser = BNDemoDataParserConfig()
    settings.set_timestamp()
    settings.set_experiment_name()
    return settings


if __name__ == "__main__":
    main(tyro.cli(ViewerPanel))
