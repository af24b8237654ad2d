"""Runs of a sweep: each is `ns-train`, then `ns-eval`, and leaves a record once it is finished."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bn_field_plugin.errors import UserError
from bn_field_plugin.files import write_whole
from standalone.report import machine_facts
from standalone.sweep.nerfstudio_commands import evaluate, is_ours, train, without_lpips
from standalone.sweep.scenes import Scene, labelled, split_words

RECORD = "result.json"
"""File that says that a run is finished. It is written last, and whole."""

VIEWS = "views"
"""Folder of a run's test views, each true view beside the rendered one."""


@dataclass(frozen=True)
class Method:
    """A method with its options."""

    label: str
    """Its name in tables."""
    name: str
    """nerfstudio's name of it."""
    options: tuple[str, ...] = ()
    """Options as on nerfstudio's command line."""

    @staticmethod
    def parse(text: str) -> Method:
        """A method as a user gives it: what stands after ns-train; NAME=... names it.

        Args:
            text: as `bn-nerf-small` or `layer=bn-nerf-small --pipeline.model.norm layer`.

        Raises:
            UserError: no word, or an option in the first place.
        """
        label, text = labelled(text)
        words = split_words(text, "--methods")
        if words[0].startswith("-"):
            raise UserError(f"--methods {text!r} begins with an option: begin with the method's name")
        return Method(label or text, words[0], tuple(words[1:]))


@dataclass(frozen=True)
class Run:
    """One training run and its evaluation."""

    scene: Scene
    method: Method
    seed: int
    steps: int
    threads: int | None = None
    """Threads of each command; None leaves them to torch."""
    views: bool = False
    """Keep pictures of the test views."""

    @property
    def identity(self) -> dict[str, object]:
        """What tells a run from others, as JSON can write it; labels do not count."""
        return {
            "data": list(self.scene.words),
            "method": self.method.name,
            "options": list(self.method.options),
            "seed": self.seed,
            "steps": self.steps,
            "threads": self.threads,
            "views": self.views,
        }

    def folder(self, output_dir: Path) -> Path:
        """Folder of the run's files, with a readable name, which differs for each identity."""
        digest = hashlib.sha256(json.dumps(self.identity).encode()).hexdigest()[:10]
        name = f"{self.scene.name}-{self.method.name}-{self.steps}-seed{self.seed}-{digest}"
        return output_dir / "runs" / name

    def title(self) -> str:
        """Words for the run in progress and messages."""
        return f"{self.scene.name}, {self.method.label}, {self.steps} steps, seed {self.seed}"


@dataclass(frozen=True)
class Result:
    """What a finished run measured."""

    seconds: float
    """Wall clock of ns-train, start of Python and loading of data included."""
    eval_seconds: float
    """Wall clock of ns-eval."""
    metrics: dict[str, float]
    """Means over all test views, by nerfstudio's names: `psnr`, `ssim`, `num_rays_per_sec`, ..."""
    config: str
    """The run's config.yml, below the sweep's folder."""
    machine: dict[str, str]
    """Hardware, threads and versions."""
    peak_bytes: int | None = None
    """The most memory that ns-train held; None in a record that lacks it."""


def finished(run: Run, output_dir: Path) -> Result | None:
    """The result that a run has left, or None where it has not ended well.

    Raises:
        UserError: a record that cannot be read.
    """
    path = run.folder(output_dir) / RECORD
    return _read_record(path)[1] if path.exists() else None


def finished_runs(output_dir: Path) -> dict[Run, Result]:
    """All runs that have left their records in a sweep's folder, by scene, method and seed.

    Raises:
        UserError: a record that cannot be read.
    """
    records = [_read_record(path) for path in output_dir.glob(f"runs/*/{RECORD}")]
    return dict(sorted(records, key=lambda pair: (*_names(pair[0]), pair[0].steps, pair[0].seed)))


def execute(run: Run, output_dir: Path) -> Result:
    """Train, evaluate and leave the record, after removing what an earlier, failed attempt left.

    Args:
        run: what to run.
        output_dir: folder of the sweep.

    Raises:
        CommandFailed: a command failed.
    """
    folder = run.folder(output_dir)
    shutil.rmtree(folder, ignore_errors=True)
    environment = {} if run.threads is None else {"OMP_NUM_THREADS": str(run.threads)}
    foreign = not is_ours(run.method.name)
    placeholder = without_lpips(output_dir / "torch") if foreign else {}
    environment |= placeholder
    trained = train(
        run.method.name,
        run.scene.words,
        folder,
        steps=run.steps,
        seed=run.seed,
        options=run.method.options,
        environment=environment,
    )
    start = time.perf_counter()
    metrics = evaluate(trained, environment, folder / VIEWS if run.views else None)
    eval_seconds = time.perf_counter() - start
    # The deviation over one view is NaN, and LPIPS from blank weights means nothing.
    metrics = {
        name: value
        for name, value in metrics.items()
        if not (name.endswith("_std") and math.isnan(value)) and not (placeholder and "lpips" in name)
    }
    facts = {**machine_facts(), "threads": str(run.threads or machine_facts()["threads"])}
    config = os.path.relpath(trained.config, output_dir)
    cost = trained.cost
    result = Result(cost.seconds, eval_seconds, metrics, config, facts, cost.peak_bytes)
    record = {"run": dataclasses.asdict(run), "result": dataclasses.asdict(result)}
    write_whole(folder / RECORD, json.dumps(record, indent=2) + "\n")
    return result


def run_or_recall(run: Run, output_dir: Path) -> Result:
    """The result of a run, which is executed unless it has been.

    Raises:
        CommandFailed: a command failed.
        UserError: a record that cannot be read.
    """
    return finished(run, output_dir) or execute(run, output_dir)


def product(
    scenes: Sequence[Scene], methods: Sequence[Method], seeds: Sequence[int]
) -> list[tuple[Scene, Method, int]]:
    """Every method on every scene with every seed. Seeds change last, so that half a sweep compares too.

    Raises:
        UserError: two scenes, methods or seeds of one name.
    """
    for what, names in (
        ("--scenes", [scene.name for scene in scenes]),
        ("--methods", [method.label for method in methods]),
        ("--seeds", [str(seed) for seed in seeds]),
    ):
        if not names:
            raise UserError(f"{what} is empty: give at least one")
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"{what} has {twice} twice: give it once, or two names as A=... B=...")
    return [(scene, method, seed) for seed in seeds for scene in scenes for method in methods]


def _names(run: Run) -> tuple[str, str]:
    return run.scene.name, run.method.label


def _read_record(path: Path) -> tuple[Run, Result]:
    try:
        record = json.loads(path.read_text())
        run = record["run"]
        scene = Scene(run["scene"]["name"], tuple(run["scene"]["words"]))
        method = Method(run["method"]["label"], run["method"]["name"], tuple(run["method"]["options"]))
        return Run(**{**run, "scene": scene, "method": method}), Result(**record["result"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no record of a run: delete it to run it again") from error
