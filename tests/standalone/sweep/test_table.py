"""The table of a sweep."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from standalone.sweep.runs import Method, Result, Run
from standalone.sweep.scenes import Scene
from standalone.sweep.table import summary_rows, write_summary

PSNR = {"a": (20.0, 21.0, 23.5), "b": (25.0, 26.0, 27.0)}


def results(scenes: tuple[str, ...] = ("lego",), seeds: int = 3) -> dict[Run, Result]:
    made = {}
    for seed in range(seeds):
        for place, scene in enumerate(scenes):
            for method, psnr in PSNR.items():
                run = Run(Scene(scene, (scene,)), Method(method, method), seed, 100)
                metrics = {"psnr": psnr[seed] + place, "ssim": 0.5, "num_rays_per_sec": 1000.4}
                made[run] = Result(10.0 + seed, 2.0, metrics, "config.yml", {"cpu": "x"})
    return made


def test_means_and_deviations_are_numpy_s() -> None:
    for row in summary_rows(results()):
        values = PSNR[str(row["method"])]
        assert row["PSNR dB"] == pytest.approx(np.mean(values), abs=0.005)
        assert row["PSNR sd"] == pytest.approx(np.std(values, ddof=1), abs=0.005)
        assert (row["seeds"], row["steps"], row["wall s"], row["eval rays/s"]) == (3, 100, 11.0, 1000)


def test_one_seed_has_no_deviation() -> None:
    assert [row["PSNR sd"] for row in summary_rows(results(seeds=1))] == [None, None]


def test_several_scenes_have_a_mean() -> None:
    rows = summary_rows(results(("lego", "ship")))
    means = {row["method"]: row["PSNR dB"] for row in rows if row["scene"] == "mean of all"}
    assert means == {"a": 22.0, "b": 26.5}


def test_a_method_that_misses_a_scene_has_no_mean() -> None:
    some = {
        run: result
        for run, result in results(("lego", "ship")).items()
        if (run.scene.name, run.method.label) != ("ship", "a")
    }
    assert [row["method"] for row in summary_rows(some) if row["scene"] == "mean of all"] == ["b"]


def test_other_budgets_are_other_rows() -> None:
    run, result = next(iter(results().items()))
    longer = Run(run.scene, run.method, run.seed, 200)
    assert [row["steps"] for row in summary_rows({run: result, longer: result})] == [100, 200]


def test_the_three_files_hold_the_same(tmp_path: Path) -> None:
    write_summary(results(), tmp_path, "bn-sweep run")
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    with (tmp_path / "table.csv").open() as stream:
        assert [row["PSNR dB"] for row in csv.DictReader(stream)] == [str(row["PSNR dB"]) for row in rows]
    assert "| lego | b | 3 | 100 |" in (tmp_path / "table.md").read_text()
