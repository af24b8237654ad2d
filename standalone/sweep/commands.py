"""The commands of `bn-sweep`: options, and what each does with them."""

# No `from __future__ import annotations`: tyro reads the evaluated types of the options.
import hashlib
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from bn_field_plugin.errors import UserError
from standalone.report import say, usable_cores

if TYPE_CHECKING:
    from standalone.sweep.scenes import Scene

OUTPUTS = Path("outputs/sweep")
"""Folder of results, unless another is given."""

FAILED = 1
"""Exit status of a sweep some runs of which failed."""


@dataclass
class Run:
    """Train and evaluate every method on every scene with every seed; run again, it does what is left.

    A run is ns-train, then ns-eval on the test views. A finished run is kept and never repeated, also after
    Ctrl-C; one that failed is reported with the end of its log and tried again by the next call.
    The folder gets the table (table.md, table.csv, table.json), means and standard deviations over seeds.

    Several scenes: bn-sweep run --steps 1000 --scenes data/lego data/ship --methods nerf-small bn-nerf-small

    Options: bn-sweep run --steps 500 --methods nerf-small "layer=nerf-small --pipeline.model.norm layer"

    Equal time: bn-sweep run --minutes 5 --scenes data/lego --methods plenoxel bn-nerf-small

    A preset: bn-sweep run --config norms --scenes data/lego
    """

    scenes: tuple[str, ...] = ("bn-demo-data",)
    """Folders in Blender's or nerfstudio's format, or in quotes what stands after a method on ns-train's
    command line, such as "colmap --data FOLDER"; NAME=... gives it a name."""
    methods: tuple[str, ...] = ("nerf-small", "bn-nerf-small")
    """Methods, in quotes with their options; NAME=... gives one a name."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds, --machine.seed of ns-train."""
    steps: int | None = None
    """Steps of each run."""
    minutes: float | None = None
    """Instead of steps: wall clock of each run's ns-train; short pilot runs tell how many steps fit in."""
    jobs: int = 1
    """Runs at a time. Runs that share a machine slow each other down: compare times of one job only."""
    threads: int | None = None
    """Threads of each run; by default this machine's cores, shared among the jobs."""
    gpus: float | None = None
    """GPUs of each run; 0.5 lets two share one. By default 1 where there is a GPU."""
    train_views: int | None = None
    """Training views to keep of each Blender-format scene, evenly chosen; all by default."""
    test_views: int | None = None
    """Test views to keep of each Blender-format scene, evenly chosen; all by default."""
    views: bool = False
    """Keep pictures of the test views, each true view beside the rendered one."""
    address: str | None = None
    """A running Ray cluster (as auto) whose machines share the folders; by default Ray starts on this one."""
    output_dir: Path = OUTPUTS
    """Folder of the runs and the table."""
    config: Path | None = None
    """A preset (norms, panel) or a YAML file of options; options given here override it."""

    def main(self) -> None:
        """Run, write the table, report failures.

        Raises:
            UserError: options that cannot be used, or Ray is absent.
            FitInterrupted: Ctrl-C.
            SystemExit: with status `FAILED`, when some runs failed.
        """
        from rich.console import Console

        from standalone.interrupts import FitInterrupted
        from standalone.sweep.engine import Resources, import_ray
        from standalone.sweep.runs import Method
        from standalone.sweep.scenes import Scene
        from standalone.sweep.sweep import Sweep, check_budget, run_sweep
        from standalone.sweep.table import write_summary

        check_budget(self.steps, self.minutes)
        if self.jobs < 1 or (self.threads is not None and self.threads < 1):
            raise UserError("--jobs and --threads must be at least 1")
        import_ray()  # if Ray is absent, the sweep stops before it writes anything
        methods = [Method.parse(text) for text in self.methods]
        check_methods([method.name for method in methods])
        scenes = [self._scene(Scene.parse(text)) for text in self.scenes]
        threads = self.threads or max(1, usable_cores() // self.jobs)
        sweep = Sweep(scenes, methods, self.seeds, self.steps, self.minutes, threads, self.views)
        resources = Resources(self.jobs, threads, _gpus() if self.gpus is None else self.gpus, self.address)
        console = Console(stderr=True)
        try:
            report = run_sweep(sweep, self.output_dir.resolve(), resources, console)
        except KeyboardInterrupt:
            raise FitInterrupted(
                f"stopped; finished runs are kept in {self.output_dir}: the same command goes on"
            ) from None
        if report.results:
            command = shlex.join(("bn-sweep", "table", str(self.output_dir)))
            write_summary(report.results, self.output_dir, self.command(), self.notes())
            say(f"table: {self.output_dir}; again at any time: {command}")
        if report.failures:
            for title, reason in report.failures.items():
                console.print(f"{title} failed:\n{reason}", highlight=False, markup=False, soft_wrap=True)
            count = len(report.failures)
            console.print(f"{count} failed: mend the cause and give the same command again", markup=False)
            raise SystemExit(FAILED)

    def command(self) -> str:
        """The command line as the table shows it, with scenes by name: folders differ between machines."""
        from standalone.sweep.scenes import Scene

        words = ["bn-sweep", "run", "--scenes", *(Scene.parse(text).name for text in self.scenes)]
        words += ["--methods", *self.methods, "--seeds", *map(str, self.seeds)]
        for name in ("steps", "minutes", "jobs", "threads", "train_views", "test_views"):
            if (value := getattr(self, name)) is not None:
                words += [f"--{name.replace('_', '-')}", f"{value:g}"]
        return shlex.join(words)

    def notes(self) -> list[str]:
        """Sentences under the table."""
        if self.minutes is None or self.jobs == 1:
            return []
        return [f"{self.jobs} runs at a time shared this machine: their times are not those of one alone."]

    def _scene(self, scene: "Scene") -> "Scene":
        """The scene with as many views as asked for."""
        if self.train_views is None and self.test_views is None:
            return scene
        counts = f"{self.train_views or 'all'}-{self.test_views or 'all'}"
        source = hashlib.sha256(json.dumps(scene.words).encode()).hexdigest()[:10]  # scenes can share a name
        folder = self.output_dir.resolve() / "scenes" / f"{scene.name}-{counts}-{source}"
        return scene.fewer_views(folder, train=self.train_views, test=self.test_views)


@dataclass
class Table:
    """Make the table of all runs that are finished in a folder, also while a sweep goes on.

    Example: bn-sweep table outputs/sweep
    """

    folder: tyro.conf.Positional[Path] = OUTPUTS
    """Folder of a sweep."""

    def main(self) -> None:
        """Write the table.

        Raises:
            UserError: no finished run is there, or a record cannot be read.
        """
        from standalone.sweep.runs import finished_runs
        from standalone.sweep.table import write_summary

        results = finished_runs(self.folder)
        if not results:
            raise UserError(f"{self.folder} holds no finished run: make some by bn-sweep run")
        write_summary(results, self.folder, shlex.join(("bn-sweep", "table", str(self.folder))))


def check_methods(names: list[str]) -> None:
    """Stop before hours of runs where nerfstudio does not know a method.

    Raises:
        UserError: an unknown method.
    """
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nerfstudio's import warns of torch's deprecations
        from nerfstudio.configs.method_configs import all_methods

    for name in names:
        if name not in all_methods:
            raise UserError(f"--methods: nerfstudio knows no {name!r}; see ns-train --help")


def _gpus() -> float:
    import torch

    return 1.0 if torch.cuda.is_available() else 0.0
