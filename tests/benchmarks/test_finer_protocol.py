"""FINER's protocol: which views train and test, how learning rates are chosen; the runs are made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import finer_protocol
from benchmarks.finer_protocol import OURS, RATES, SIREN, FinerProtocol, main
from bn_field_plugin.method_configs import bn_nerf_small, siren_nerf
from standalone.sweep.runs import Result, Run
from tests.captures import write_blender_capture

BEST = {OURS: 2.0, SIREN: 0.5}
"""Factor of the learning rates at which each made-up side is best."""


def frames(run: Run, split: str) -> set[str]:
    folder = Path(run.scene.words[run.scene.words.index("--data") + 1])
    return {
        one["file_path"] for one in json.loads((folder / f"transforms_{split}.json").read_text())["frames"]
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("finer")


@pytest.fixture(scope="module")
def runs(folder: Path) -> list[Run]:
    """The runs that the protocol made; its table is in `folder`."""
    made: list[Run] = []

    def made_up(run: Run, output_dir: Path) -> Result:
        made.append(run)
        factor = float(run.method.label.rpartition("x")[2])
        psnr = 20.0 + 5 * (run.method.name == OURS) - abs(factor - BEST[run.method.name]) + 0.1 * run.seed
        return Result(1.0, 1.0, {"psnr": psnr, "ssim": 0.5}, "config.yml", {})

    scene = write_blender_capture(folder / "scene", num_train=30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finer_protocol, "run_or_recall", made_up)
        main(FinerProtocol(scene, output_dir=folder / "out", write_here=True))
    return made


def test_each_side_runs_with_the_factor_that_its_trial_chose(runs: list[Run], folder: Path) -> None:
    final = {run.method.name: run.method.label for run in runs if len(frames(run, "train")) == 25}
    assert final == {name: f"{name} x{factor:g}" for name, factor in BEST.items()}
    record = json.loads((folder / "out/finer_protocol.json").read_text())
    assert {row["method"]: row["PSNR dB"] for row in record["rows"]} == {SIREN: 20.1, OURS: 25.1}
    assert f"{OURS} over {SIREN}: +5.00 dB, standard deviation 0.00 over seeds." in record["notes"]


def test_no_test_view_has_a_say_in_the_learning_rates(runs: list[Run]) -> None:
    trials = [run for run in runs if len(frames(run, "train")) == 20]
    final = next(run for run in runs if len(frames(run, "train")) == 25)
    assert len(trials) == 6
    for run in trials:
        assert len(frames(run, "test")) == 5
        assert frames(run, "train") | frames(run, "test") == frames(final, "train")
    assert not frames(final, "train") & frames(final, "test")


def test_the_factors_are_of_the_methods_own_rates() -> None:
    for name, method in ((OURS, bn_nerf_small), (SIREN, siren_nerf)):
        groups = method.config.optimizers
        assert RATES[name] == tuple(groups[g]["optimizer"].lr for g in ("hidden_matrices", "fields"))
