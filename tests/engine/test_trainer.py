"""The trainer: checkpoints that every nerfstudio command reads, resumption, interruption, mistakes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from nerfstudio.engine.trainer import Trainer
from nerfstudio.utils.eval_utils import eval_load_checkpoint

from bn_field_plugin.engine.checkpoints import checkpoint_name, list_checkpoints, load_checkpoint
from bn_field_plugin.engine.schedulers import CosineDecayConfig
from tests.engine.tiny import TinyPipeline, TinyPipelineConfig, config, run

pytestmark = pytest.mark.usefixtures("fresh_writers")


def rates(trainer) -> dict[str, float]:
    return {name: made.param_groups[0]["lr"] for name, made in trainer.optimizers.optimizers.items()}


def test_checkpoint_is_the_one_that_nerfstudio_writes(tmp_path: Path) -> None:
    trainer = run(config(tmp_path))
    ours = load_checkpoint(trainer.checkpoint_dir / checkpoint_name(9))
    Trainer.save_checkpoint(trainer, 9)
    theirs = load_checkpoint(trainer.checkpoint_dir / checkpoint_name(9))
    assert ours.keys() == theirs.keys()
    assert str(ours) == str(theirs)
    for key, value in theirs["pipeline"].items():
        assert torch.equal(ours["pipeline"][key], value)


def test_nerfstudio_evaluates_it(tmp_path: Path) -> None:
    trainer = run(config(tmp_path))
    run_config = trainer.config
    run_config.load_dir = trainer.checkpoint_dir
    pipeline = TinyPipeline(TinyPipelineConfig(), "cpu")
    assert eval_load_checkpoint(run_config, pipeline)[1] == 9
    assert torch.equal(pipeline.model.weight, trainer.pipeline.model.weight)


def test_statistics_are_exact_in_every_checkpoint(tmp_path: Path) -> None:
    trainer = run(config(tmp_path, save_only_latest_checkpoint=False))
    paths = list_checkpoints(trainer.checkpoint_dir)
    assert [path.name for path in paths] == [checkpoint_name(step) for step in (4, 8, 9)]
    assert all(load_checkpoint(path)["pipeline"]["_model.exact"] == 1 for path in paths)


def test_a_checkpoint_of_frozen_norms_says_so_and_they_are_frozen_again(tmp_path: Path, monkeypatch) -> None:
    first = run(config(tmp_path / "first"))
    first.pipeline.is_frozen = True
    first.save_checkpoint(9)
    assert load_checkpoint(first.checkpoint_dir / checkpoint_name(9))["norm_is_frozen"] is True
    frozen: list[tuple[float, bool]] = []

    def freeze(pipeline: TinyPipeline) -> None:
        is_loaded = torch.equal(pipeline.model.weight, first.pipeline.model.weight)
        frozen.append((float(pipeline.model.exact), is_loaded))

    monkeypatch.setattr(TinyPipeline, "freeze", freeze, raising=False)
    run(config(tmp_path / "resumed", steps=2, load_dir=first.checkpoint_dir))
    assert frozen == [(1.0, True)]


def test_only_the_latest_is_kept_if_so_asked(tmp_path: Path) -> None:
    trainer = run(config(tmp_path))
    assert os.listdir(trainer.checkpoint_dir) == [checkpoint_name(9)]


def test_resumed_run_equals_one_that_was_never_stopped(tmp_path: Path) -> None:
    """Equal are weights, optimizer states and learning rates, during the warm-up and the decay."""
    whole = run(config(tmp_path / "whole", steps=12))
    first = run(
        config(tmp_path / "first", steps=12, pipeline=TinyPipelineConfig(), save_only_latest_checkpoint=False)
    )
    resumed = run(config(tmp_path / "resumed", steps=7, load_dir=first.checkpoint_dir, load_step=4))
    assert resumed.step == 11
    assert rates(resumed) == rates(whole)
    for ours, theirs in zip(
        resumed.pipeline.state_dict().values(), whole.pipeline.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)
    for name, optimizer in whole.optimizers.optimizers.items():
        assert str(resumed.optimizers.optimizers[name].state_dict()) == str(optimizer.state_dict())


def test_resumption_trains_as_many_steps_more_as_the_option_says(tmp_path: Path) -> None:
    first = run(config(tmp_path / "first", steps=5))
    resumed = run(
        config(tmp_path / "resumed", steps=3, load_checkpoint=first.checkpoint_dir / checkpoint_name(4))
    )
    assert resumed.step == 7


def test_schedule_without_an_end_ends_with_the_run(tmp_path: Path) -> None:
    trainer = run(config(tmp_path, steps=10))
    assert rates(trainer) == pytest.approx({"matrices": 0.02 * 0.02, "others": 0.1 * 0.02})


def test_schedule_begins_anew_if_so_asked(tmp_path: Path) -> None:
    first = run(config(tmp_path / "first", steps=10))
    schedule = CosineDecayConfig(final_fraction=0.5, max_steps=1)
    optimizers = {name: {**group, "scheduler": schedule} for name, group in first.config.optimizers.items()}
    options = {"load_dir": first.checkpoint_dir, "load_scheduler": False, "optimizers": optimizers}
    resumed = run(config(tmp_path / "resumed", steps=1, **options))
    assert rates(resumed) == pytest.approx({"matrices": 0.02 * 0.5, "others": 0.1 * 0.5})


def test_left_over_files_are_removed_at_the_start(tmp_path: Path) -> None:
    first = run(config(tmp_path / "first"))
    left_over = first.base_dir / ".step-000000012.abc.partial.ckpt"
    left_over.write_bytes(b"half")
    run(config(tmp_path / "resumed", load_dir=first.checkpoint_dir))
    assert not left_over.exists()


def expect_error(capsys, *words: str) -> None:
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    for word in words:
        assert word in error


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"load_dir": "absent"}, ["--load-dir", "absent", "no folder"]),
        ({"load_dir": "empty"}, ["--load-dir", "empty", "holds no checkpoint"]),
        ({"load_dir": "run"}, ["--load-dir", "did you mean", "nerfstudio_models"]),
        ({"load_dir": "run/nerfstudio_models", "load_step": 3}, ["--load-step 3", "it holds 1, 2"]),
        ({"load_dir": "run/nerfstudio_models", "load_step": 2}, ["step-000000002.ckpt", "broken"]),
        ({"load_dir": "broken"}, ["--load-dir", "broken checkpoints only"]),
        ({"load_checkpoint": "absent.ckpt"}, ["--load-checkpoint", "absent.ckpt", "does not exist"]),
        ({"load_checkpoint": "run/nerfstudio_models/step-000000002.ckpt"}, ["step-000000002.ckpt", "broken"]),
    ],
)
def test_mistakes_about_checkpoints_are_told_in_one_line(
    tmp_path: Path, capsys, options: dict, words: list
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / checkpoint_name(1)).write_bytes(b"half")
    models = tmp_path / "run" / "nerfstudio_models"
    models.mkdir(parents=True)
    (models / checkpoint_name(1)).touch()
    (models / checkpoint_name(2)).write_bytes(b"half")
    paths = {key: tmp_path / value if isinstance(value, str) else value for key, value in options.items()}
    with pytest.raises(SystemExit) as caught:
        run(config(tmp_path / "out", **paths))
    assert caught.value.code == 2
    expect_error(capsys, *words)


def test_the_newest_whole_checkpoint_is_resumed(tmp_path: Path) -> None:
    first = run(config(tmp_path / "first"))
    (first.checkpoint_dir / checkpoint_name(20)).write_bytes(b"half")
    assert run(config(tmp_path / "resumed", load_dir=first.checkpoint_dir)).step == 19


def test_errors_of_the_pipeline_are_told_in_one_line(tmp_path: Path, capsys) -> None:
    first = run(config(tmp_path / "first"))
    with pytest.raises(SystemExit):
        run(config(tmp_path / "out", load_dir=first.checkpoint_dir, pipeline=TinyPipelineConfig(width=5)))
    expect_error(capsys, "another width")


def test_optimizers_that_do_not_fit_are_told_in_one_line(tmp_path: Path, capsys) -> None:
    path = run(config(tmp_path / "first")).checkpoint_dir / checkpoint_name(9)
    state = torch.load(path, weights_only=True)
    state["optimizers"]["hash_grids"] = state["optimizers"].pop("others")
    torch.save(state, path)
    with pytest.raises(SystemExit):
        run(config(tmp_path / "out", load_checkpoint=path))
    expect_error(capsys, "optimizers of checkpoint", "hash_grids")


def test_a_write_that_fails_ends_the_run_in_one_line_and_keeps_the_checkpoint_before(
    tmp_path: Path, capsys
) -> None:
    run_config = config(tmp_path, save_only_latest_checkpoint=False)
    blocked = run_config.get_checkpoint_dir() / checkpoint_name(8)
    blocked.mkdir(parents=True)  # a file cannot be moved onto a folder
    with pytest.raises(SystemExit) as caught:
        run(run_config)
    assert caught.value.code == 2
    expect_error(capsys, "cannot write checkpoint", checkpoint_name(8), "disk space")
    assert load_checkpoint(run_config.get_checkpoint_dir() / checkpoint_name(4))["step"] == 4
    assert not list(run_config.get_base_dir().glob(".step-*"))


def start(tmp_path: Path, repository: Path, seconds_per_step: float) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.engine.tiny", str(tmp_path), "100000", str(seconds_per_step)],
        cwd=repository,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(process: subprocess.Popen, word: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if word in line:
            return
    pytest.fail(f"the run ended before it printed {word!r}")


@pytest.mark.slow
def test_an_interrupt_ends_the_run_with_a_checkpoint(tmp_path: Path, repository: Path) -> None:
    process = start(tmp_path, repository, 0.01)
    wait_for(process, "in step 2")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "stopping: a checkpoint is written first" in output
    assert "Traceback" not in output
    (path,) = list_checkpoints(config(tmp_path).get_checkpoint_dir())
    assert load_checkpoint(path)["pipeline"]["_model.exact"] == 1


@pytest.mark.slow
def test_a_second_interrupt_ends_the_run_at_once(tmp_path: Path, repository: Path) -> None:
    process = start(tmp_path, repository, 1000)
    wait_for(process, "in step 0")
    process.send_signal(signal.SIGINT)
    wait_for(process, "stopping")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in output
