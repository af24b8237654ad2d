"""Runs: their identity, their records, and what an earlier attempt leaves."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from bn_field_plugin import UserError
from standalone.sweep import runs
from standalone.sweep.nerfstudio_commands import CommandFailed, Cost, TrainedRun
from standalone.sweep.runs import (
    RECORD,
    Method,
    Run,
    execute,
    finished,
    finished_runs,
    product,
    run_or_recall,
)
from standalone.sweep.scenes import Scene

RUN = Run(Scene("demo", ("bn-demo-data",)), Method("bn", "bn-nerf-small", ("--a", "1")), seed=0, steps=5)


class Commands:
    """Pretends to be ns-train and ns-eval."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fails = False
        self.environments: list[Mapping[str, str]] = []

    def train(self, method: str, data: object, output_dir: Path, **options: object) -> TrainedRun:
        self.calls.append("train")
        self.environments.append(options["environment"])  # type: ignore[arg-type]
        output_dir.mkdir(parents=True, exist_ok=True)
        (output_dir / f"leftover-{len(self.calls)}").touch()
        if self.fails:
            raise CommandFailed("the end of the log")
        return TrainedRun(output_dir / "config.yml", Cost(12.5, 2**30))

    def evaluate(self, run: TrainedRun, *_: object) -> dict[str, float]:
        self.calls.append("eval")
        return {"psnr": 20.0, "ssim": 0.5, "lpips": 0.25, "psnr_std": math.nan}


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    commands = Commands()
    monkeypatch.setattr(runs, "train", commands.train)
    monkeypatch.setattr(runs, "evaluate", commands.evaluate)
    monkeypatch.setattr(runs, "without_lpips", lambda folder: {"TORCH_HOME": str(folder)})
    return commands


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("nerf-small", Method("nerf-small", "nerf-small")),
        ("a --b=c", Method("a --b=c", "a", ("--b=c",))),
        ("x=a --b 'c d'", Method("x", "a", ("--b", "c d"))),
    ],
)
def test_a_method_is_what_stands_after_ns_train(text: str, method: Method) -> None:
    assert Method.parse(text) == method


def test_a_method_that_is_none_is_refused() -> None:
    for text in ("--pipeline.model.norm none", "x=--a", "", "'"):
        with pytest.raises(UserError):
            Method.parse(text)


def test_a_finished_run_is_recalled(tmp_path: Path, commands: Commands) -> None:
    assert finished(RUN, tmp_path) is None
    first = run_or_recall(RUN, tmp_path)
    assert commands.calls == ["train", "eval"]
    assert run_or_recall(RUN, tmp_path) == first
    assert commands.calls == ["train", "eval"]
    assert finished_runs(tmp_path) == {RUN: first}
    assert (first.seconds, first.peak_bytes, first.metrics["psnr"]) == (12.5, 2**30, 20.0)


def test_a_failed_run_leaves_no_record_and_is_tried_again(tmp_path: Path, commands: Commands) -> None:
    commands.fails = True
    with pytest.raises(CommandFailed):
        execute(RUN, tmp_path)
    assert finished(RUN, tmp_path) is None
    commands.fails = False
    execute(RUN, tmp_path)
    # No file of the first attempt may pass for one of the second.
    assert sorted(path.name for path in RUN.folder(tmp_path).iterdir()) == ["leftover-2", RECORD]


@pytest.mark.parametrize(
    "other",
    [
        replace(RUN, seed=1),
        replace(RUN, steps=6),
        replace(RUN, threads=1),
        replace(RUN, views=True),
        replace(RUN, scene=Scene("demo", ("bn-demo-data", "--x", "1"))),
        replace(RUN, method=Method("bn", "bn-nerf-small", ("--a", "2"))),
    ],
)
def test_whatever_changes_the_result_changes_the_folder(other: Run) -> None:
    assert other.folder(Path()) != RUN.folder(Path())


def test_a_label_changes_nothing(tmp_path: Path, commands: Commands) -> None:
    renamed = replace(RUN, method=replace(RUN.method, label="other"))
    assert renamed.folder(tmp_path) == RUN.folder(tmp_path)


def test_a_broken_record_is_named(tmp_path: Path) -> None:
    path = RUN.folder(tmp_path) / RECORD
    path.parent.mkdir(parents=True)
    for content in ("", "[]", json.dumps({"run": {}})):
        path.write_text(content)
        with pytest.raises(UserError, match="delete it to run it again"):
            finished(RUN, tmp_path)


def test_lpips_of_random_weights_is_not_reported(tmp_path: Path, commands: Commands) -> None:
    foreign = replace(RUN, method=Method("nerfacto", "nerfacto"))
    assert execute(RUN, tmp_path).metrics == {"psnr": 20.0, "ssim": 0.5, "lpips": 0.25}
    assert "lpips" not in execute(foreign, tmp_path).metrics
    assert ["TORCH_HOME" in environment for environment in commands.environments] == [False, True]


def test_threads_reach_the_commands(tmp_path: Path, commands: Commands) -> None:
    execute(replace(RUN, threads=3), tmp_path)
    assert commands.environments[0]["OMP_NUM_THREADS"] == "3"


def test_every_method_meets_every_scene_with_every_seed_once() -> None:
    scenes, methods = [Scene(name, (name,)) for name in "ab"], [Method(name, name) for name in "cd"]
    cases = product(scenes, methods, (0, 1, 2))
    assert len(set(cases)) == len(cases) == 12
    assert [seed for *_, seed in cases] == sorted(seed for *_, seed in cases)


def test_two_of_one_name_are_refused() -> None:
    scene, method = Scene("a", ("a",)), Method("b", "b")
    for scenes, methods, seeds, option in (
        ([scene, scene], [method], (0,), "--scenes"),
        ([scene], [method, method], (0,), "--methods"),
        ([scene], [method], (0, 0), "--seeds"),
        ([scene], [method], (), "--seeds"),
    ):
        with pytest.raises(UserError, match=option):
            product(scenes, methods, seeds)
