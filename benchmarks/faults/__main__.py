"""`python -m benchmarks.faults`: all faults, or some of them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from bn_field_plugin.errors import exit_on_user_error

Part = Literal["fuzz", "kills", "disk"]


@dataclass(frozen=True)
class Faults:
    """Kill writers, fill their disk, and hand forged files to the decoder; the exit code tells of harm."""

    parts: tuple[Part, ...] = ("fuzz", "kills", "disk")
    """Parts to run: forged files, kills by SIGKILL, a full disk (in memory, which needs root)."""
    inputs: int = 1_000_000
    """Number of forged files. A stopped campaign goes on where it was."""
    kills: int = 100
    """Number of kills of each writer."""
    seed: int = 0
    """Seed of the forged files and of the moments of the kills."""
    output_dir: Path = Path("outputs/faults")
    """Folder of the campaigns' states."""


def main(config: Faults) -> None:
    """Run, and write benchmarks/results/faults_*."""
    torch.set_num_threads(1)
    # Heavy imports come only now, so that --help answers at once.
    from benchmarks.faults.full_disk import run_full_disk
    from benchmarks.faults.fuzz import run_fuzz
    from benchmarks.faults.kills import run_kills

    harm, command = 0, "python -m benchmarks.faults --parts"
    if "fuzz" in config.parts:
        harm += run_fuzz(config.inputs, config.seed, config.output_dir, f"{command} fuzz")
    if "kills" in config.parts:
        with tempfile.TemporaryDirectory() as folder:
            harm += run_kills(config.kills, config.seed, Path(folder), f"{command} kills")
    if "disk" in config.parts:
        harm += run_full_disk(f"{command} disk")
    raise SystemExit(1 if harm else 0)


if __name__ == "__main__":
    with exit_on_user_error():
        main(tyro.cli(Faults))
