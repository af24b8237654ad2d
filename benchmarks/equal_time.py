"""Quality at equal time, and rendering speed: bn-nerf-small against nerfstudio's nerfacto (torch).

The two run one after the other on this machine: first nerfacto for its steps, then bn-nerf-small for as many
steps as fit into the wall clock that nerfacto took, start of Python and loading of data included.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks import RESULTS
from benchmarks.nerfacto import NERFACTO_ON_BLENDER
from standalone.report import machine_facts, write_table
from standalone.sweep.nerfstudio_commands import TrainedRun, evaluate, train, without_lpips
from standalone.sweep.scenes import fewer_views


@dataclass(frozen=True)
class EqualTime:
    """Train nerfacto, then bn-nerf-small for the same wall clock; evaluate both on the same test views."""

    data: Path
    """Blender-format scene, for instance the lego scene at 200x200."""
    nerfacto_steps: int = 400
    """Steps of nerfacto; they set the time that both get."""
    nerfacto_rays: int = 1024
    """Rays in a step of nerfacto; on two cores fewer rays and more steps serve it better than its 4,096."""
    pilot_steps: int = 150
    """Steps of a pilot run of bn-nerf-small, from which its number of steps is derived."""
    test_views: int = 4
    """Test views, evenly chosen, that both are judged on: nerfacto takes minutes for each on a CPU."""
    seed: int = 0
    """Seed of all runs."""
    output_dir: Path = Path("outputs/equal_time")
    """Folder of the runs."""


def main(config: EqualTime) -> None:
    """Run, and write benchmarks/results/equal_time."""
    scene = fewer_views(config.data, config.output_dir / "scene", test=config.test_views)
    data = ["blender-data", "--data", scene]

    def ours(name: str, steps: int) -> TrainedRun:
        return train("bn-nerf-small", data, config.output_dir / name, steps=steps, seed=config.seed)

    offline = without_lpips(config.output_dir / "torch")
    nerfacto = train(
        "nerfacto",
        data,
        config.output_dir / "nerfacto",
        steps=config.nerfacto_steps,
        seed=config.seed,
        options=[
            *NERFACTO_ON_BLENDER,
            *("--pipeline.datamanager.train-num-rays-per-batch", str(config.nerfacto_rays)),
        ],
        environment=offline,
    )
    # Two pilots of different lengths tell the time of a step apart from the time of starting.
    short, long = (ours(f"pilot-{n}", n).cost.seconds for n in (config.pilot_steps // 3, config.pilot_steps))
    per_step = (long - short) / (config.pilot_steps - config.pilot_steps // 3)
    startup = long - per_step * config.pilot_steps
    steps = int(0.97 * (nerfacto.cost.seconds - startup) / per_step)
    runs = {
        "nerfacto (torch)": (nerfacto, config.nerfacto_steps),
        "bn-nerf-small": (ours("bn", steps), steps),
    }
    rows, speed, psnr = [], {}, {}
    for name, (run, count) in runs.items():
        metrics = evaluate(run, offline if run is nerfacto else None)
        speed[name], psnr[name] = metrics["num_rays_per_sec"], metrics["psnr"]
        rows.append(
            {
                "method": name,
                "steps": count,
                "wall s": round(run.cost.seconds, 1),
                "PSNR dB": round(metrics["psnr"], 2),
                "SSIM": round(metrics["ssim"], 4),
                "eval rays/s": round(metrics["num_rays_per_sec"]),
            }
        )
    gain = psnr["bn-nerf-small"] - psnr["nerfacto (torch)"]
    ratio = speed["bn-nerf-small"] / speed["nerfacto (torch)"]
    notes = [
        f"Gain at equal wall clock: {gain:+.2f} dB; target at least +3 dB.",
        f"Rendering: {ratio:.1f} times nerfacto's rays per second; target at least 20. "
        f"A 200x200 view takes {40_000 / speed['bn-nerf-small']:.1f} s.",
    ]
    facts = {
        **machine_facts(),
        "scene": config.data.name,
        "test views": config.test_views,
        "seed": config.seed,
    }
    command = f"python -m benchmarks.equal_time --data {config.data.name}"
    write_table(
        "equal_time",
        "Quality at equal time, and rendering speed",
        command,
        rows,
        facts,
        notes,
        folder=RESULTS,
    )


if __name__ == "__main__":
    main(tyro.cli(EqualTime))
