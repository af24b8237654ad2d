"""`bn-sweep` as a user types it: a real sweep of two runs, and mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from standalone.presets import load_preset
from standalone.sweep.cli import COMMAND_LINE
from standalone.sweep.commands import Run
from tests.captures import write_blender_capture
from tests.commands import Finished, run

SWEEP = (
    *("bn-sweep", "run", "--scenes", "scene", "--seeds", "0", "1", "--steps", "3", "--jobs", "2"),
    *("--threads", "1", "--test-views", "1"),
)
PLENOXEL = (
    "small=plenoxel --pipeline.model.resolutions 8 16 --pipeline.model.refine-at 0.5 "
    "--pipeline.model.num-samples 8 --pipeline.datamanager.train-num-rays-per-batch 64"
)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "either --steps or --minutes"),
        (("--steps", "5", "--minutes", "1"), "either --steps or --minutes"),
        (("--steps", "0"), "above 0"),
        (("--steps", "5", "--jobs", "0"), "--jobs and --threads"),
        (("--steps", "5", "--methods", "nothing"), "no 'nothing'"),
        # nerfstudio's configurations are loaded here, to know its dataparsers.
        pytest.param(("--steps", "5", "--scenes", "./absent"), "no such folder", marks=pytest.mark.slow),
    ],
)
def test_mistakes_are_one_line(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as stop:
        COMMAND_LINE.run(["run", "--output-dir", str(tmp_path / "out"), *words])
    assert stop.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert message in error
    assert "\n" not in error
    assert not (tmp_path / "out").exists()


def test_a_folder_without_runs_has_no_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        COMMAND_LINE.run(["table", str(tmp_path)])
    assert (stop.value.code, "no finished run" in capsys.readouterr().err) == (2, True)


@pytest.mark.slow
def test_without_ray_the_command_ends_with_one_line(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['ray'] = None; from standalone.sweep.cli import main; "
        f"main(['run', '--steps', '5', '--output-dir', {str(tmp_path / 'out')!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert lines == ["error: sweeps run on Ray, which is absent: pip install 'bn-field-plugin[sweep]'"]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["norms", "panel"])
def test_presets_are_sweeps(name: str, repository: Path) -> None:
    path = repository / "standalone" / "configs" / "sweep" / f"{name}.yaml"
    options = load_preset(path, COMMAND_LINE.option_names(Run))
    command = COMMAND_LINE.parse(["run", "--config", str(path)])
    assert isinstance(command, Run)
    assert list(command.methods) == options["methods"]
    assert (command.steps, command.minutes) == (options.get("steps"), options.get("minutes"))


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finished, Finished]:
    """A sweep of two runs, then one by a preset that adds a method which fails."""
    work = tmp_path_factory.mktemp("sweep")
    write_blender_capture(work / "scene")
    first = run(work, *SWEEP, "--methods", PLENOXEL)
    preset = {"methods": [PLENOXEL, "bad=plenoxel --pipeline.model.num-samples none"]}
    (work / "preset.yaml").write_text(yaml.safe_dump(preset))
    return work, first, run(work, *SWEEP, "--config", "preset.yaml")


@pytest.mark.slow
def test_a_sweep_leaves_its_table(swept: tuple[Path, Finished, Finished]) -> None:
    work, first, _ = swept
    first.check()
    assert "2/2" in first.err
    records = sorted(work.glob("outputs/sweep/runs/*/result.json"))
    assert len(records) == 2
    psnr = [json.loads(record.read_text())["result"]["metrics"]["psnr"] for record in records]
    (row,) = json.loads((work / "outputs/sweep/table.json").read_text())["rows"]
    assert row["PSNR dB"] == pytest.approx(sum(psnr) / 2, abs=0.01)
    assert (row["scene"], row["method"], row["seeds"]) == ("scene", "small", 2)


@pytest.mark.slow
def test_finished_runs_are_kept_and_failures_are_reported(swept: tuple[Path, Finished, Finished]) -> None:
    _, _, second = swept
    assert second.code == 1
    assert "2 of 4 runs were finished before" in second.err
    assert "2 failed" in second.err
    assert "num-samples" in second.err  # a line at the end of the failed run's log
    assert "| scene | small | 2 |" in second.out


@pytest.mark.slow
def test_the_table_can_be_made_again(swept: tuple[Path, Finished, Finished]) -> None:
    done = run(swept[0], "bn-sweep", "table", "outputs/sweep").check()
    assert "| scene | small | 2 | 3 |" in done.out
