"""The pipeline: statistics exact where it matters and untouched elsewhere, checked data and checkpoints."""

import copy
import itertools
import json
import math
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from bn_field_plugin.data.capture_dataparser import BNCaptureDataParserConfig
from bn_field_plugin.data.demo_dataparser import BNDemoDataParserConfig
from bn_field_plugin.engine.checkpoints import checkpoint_name
from bn_field_plugin.engine.optimizers import AdamConfig, MuonOptimizerConfig
from bn_field_plugin.engine.pipeline import (
    BNPipeline,
    _share_before_freezing,
    check_model_state,
    private_random_numbers,
)
from bn_field_plugin.engine.schedulers import CosineDecayConfig
from bn_field_plugin.engine.trainer import BNTrainer, BNTrainerConfig
from bn_field_plugin.errors import UserError
from bn_field_plugin.models.plenoxel import PlenoxelModelConfig
from bn_field_plugin.nn import StatisticsMode, batch_statistics, running_norms
from tests.captures import write_nerfstudio_capture
from tests.nn.cases import NORMED, RUNNING
from tests.scenes import (
    same_tensors,
    statistics,
    tiny_model,
    tiny_pipeline,
    tiny_pipeline_config,
    tiny_sizes,
    train_steps,
)

ALL_NORMS = ["none", *NORMED]
pytestmark = pytest.mark.usefixtures("fresh_writers")
EVALUATIONS = {
    "batch": lambda pipeline: pipeline.get_eval_loss_dict(0),
    "image": lambda pipeline: pipeline.get_eval_image_metrics_and_images(0),
    "all images": lambda pipeline: pipeline.get_average_eval_image_metrics(0),
}
"""The ways in which nerfstudio's trainer and ns-eval evaluate."""


def parameters(pipeline: BNPipeline) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in pipeline.model.named_parameters()}


def generators() -> tuple[object, ...]:
    return torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())  # noqa: NPY002


# ------------------------------------------------------------------------------------- exact statistics


@pytest.mark.parametrize("norm", RUNNING)
def test_calibrated_statistics_are_those_of_training(norm: str, capture: Path) -> None:
    """A pass over the calibration rays gives the same with exact statistics and with batch statistics."""
    pipeline = tiny_pipeline(capture, norm=norm, rays_per_batch=96)
    train_steps(pipeline, 5)
    pipeline.calibrate()
    model = pipeline.model.train()
    with torch.no_grad():
        with private_random_numbers(20240617):
            bundle = pipeline.datamanager.next_train(0)[0]
        with private_random_numbers(20240617):
            calibrated = model(copy.deepcopy(bundle))
        with private_random_numbers(20240617), batch_statistics(model):
            expected = model(bundle)
    torch.testing.assert_close(calibrated, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("evaluate", EVALUATIONS.values(), ids=EVALUATIONS)
def test_every_evaluation_has_exact_statistics(
    evaluate: Callable[[BNPipeline], object], capture: Path
) -> None:
    pipelines = [tiny_pipeline(capture) for _ in range(3)]
    for pipeline in pipelines:
        train_steps(pipeline, 4, seed=3)
    stale, exact, evaluated = pipelines
    exact.calibrate()
    evaluate(evaluated)
    assert same_tensors(statistics(evaluated.model), statistics(exact.model))
    assert not torch.allclose(
        stale.model.field_fine.trunk.layers[1].norm.running_var,
        exact.model.field_fine.trunk.layers[1].norm.running_var,
        rtol=0.01,
    )


def test_calibration_draws_the_same_rays_each_time(capture: Path) -> None:
    pipeline = tiny_pipeline(capture)
    train_steps(pipeline, 3)
    pipeline.calibrate()
    first = statistics(pipeline.model)
    torch.rand(7)
    pipeline._is_stale = True
    pipeline.calibrate()
    assert same_tensors(statistics(pipeline.model), first)


def test_calibration_uses_at_least_as_many_rays_as_the_option_says(capture: Path) -> None:
    pipeline = tiny_pipeline(capture, rays_per_batch=48, calibration_rays=100)
    train_steps(pipeline, 1)
    batches: list[int] = []
    pipeline.datamanager.train_ray_generator.register_forward_hook(
        lambda _, __, bundle: batches.append(len(bundle))
    )
    pipeline.calibrate()
    assert batches == [100]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_calibration_leaves_everything_else_as_it_was(norm: str, training: bool, capture: Path) -> None:
    """Unchanged are training's random numbers, the parameters, and the mode that others have set."""
    pipeline = tiny_pipeline(capture, norm=norm)
    train_steps(pipeline, 2)
    pipeline.train(training)
    before, weights = generators(), parameters(pipeline)
    pipeline.calibrate()
    assert generators() == before
    assert same_tensors(parameters(pipeline), weights)
    assert pipeline.training == pipeline.model.training == training
    assert all(m.training == training for m in pipeline.model.modules())
    assert all(p.grad is None for p in pipeline.model.parameters())


def test_statistics_that_are_exact_already_are_not_computed_again(capture: Path) -> None:
    pipeline = tiny_pipeline(capture)
    train_steps(pipeline, 2)
    pipeline.calibrate()
    calls: list[int] = []
    pipeline.datamanager.train_ray_generator.register_forward_hook(lambda *_: calls.append(1))
    pipeline.calibrate()
    pipeline.get_average_eval_image_metrics()
    assert not calls
    train_steps(pipeline, 1)
    calls.clear()
    pipeline.calibrate()
    assert calls


def test_viewer_and_evaluation_in_between_do_not_change_training(capture: Path) -> None:
    """The parameters are bit for bit those of training without viewer and evaluation."""
    alone, watched = tiny_pipeline(capture), tiny_pipeline(capture)
    train_steps(alone, 3, seed=3)
    torch.manual_seed(3)
    cameras = watched.datamanager.eval_dataset.cameras
    for _ in range(3):
        train_steps(watched, 1)
        moving = statistics(watched.model)
        watched.model.eval()  # the viewer's thread does this between two steps
        with torch.no_grad():
            watched.model.get_outputs_for_camera(cameras[0:1])
        watched.model.train()
        assert same_tensors(statistics(watched.model), moving)
        watched.calibrate()
        with torch.random.fork_rng():  # nerfstudio's evaluation itself draws pixels and images
            state = random.getstate()
            for evaluate in EVALUATIONS.values():
                evaluate(watched)
            random.setstate(state)
        assert watched.training
    assert same_tensors(parameters(alone), parameters(watched))


def test_evaluation_changes_no_exact_statistics(capture: Path) -> None:
    pipeline = tiny_pipeline(capture)
    train_steps(pipeline, 2)
    pipeline.calibrate()
    exact = statistics(pipeline.model)
    for evaluate in EVALUATIONS.values():
        evaluate(pipeline)
    assert same_tensors(statistics(pipeline.model), exact)


def test_private_random_numbers_are_the_seeds_and_leave_no_trace() -> None:
    before = generators()
    draws = []
    for _ in range(2):
        with private_random_numbers(5):
            draws.append((torch.rand(3).tolist(), random.random()))
    with private_random_numbers(6):
        other = (torch.rand(3).tolist(), random.random())
    assert draws[0] == draws[1]
    assert other != draws[0]
    assert generators() == before
    with pytest.raises(KeyError), private_random_numbers(5):
        raise KeyError(torch.rand(3), random.random())
    assert generators() == before


# -------------------------------------------------------------------------------------------- checkpoints


def trainer_config(output_dir: Path, capture: Path, steps: int, **options: object) -> BNTrainerConfig:
    config = BNTrainerConfig(
        output_dir=output_dir,
        method_name="tiny",
        experiment_name="test",
        timestamp="now",
        max_num_iterations=steps,
        steps_per_save=1000,
        vis="none",  # type: ignore[arg-type]
        pipeline=tiny_pipeline_config(capture),
        optimizers={
            "hidden_matrices": {
                "optimizer": MuonOptimizerConfig(lr=0.01),
                "scheduler": CosineDecayConfig(warmup_steps=2),
            },
            "fields": {"optimizer": AdamConfig(lr=0.01), "scheduler": CosineDecayConfig(warmup_steps=2)},
        },
        **options,  # type: ignore[arg-type]
    )
    config.machine.device_type = "cpu"
    config.viewer.quit_on_train_completion = True
    return config


def make_trainer(config: BNTrainerConfig) -> BNTrainer:
    torch.manual_seed(0)
    random.seed(0)
    config.get_base_dir().mkdir(parents=True, exist_ok=True)
    trainer: BNTrainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    return trainer


def test_a_checkpoint_holds_exact_statistics_and_nothing_but_plain_values(
    capture: Path, tmp_path: Path
) -> None:
    trainer = make_trainer(trainer_config(tmp_path, capture, steps=4))
    moving: list[dict[str, torch.Tensor]] = []
    calibrate = trainer.pipeline.calibrate

    def spy() -> None:
        moving.append(statistics(trainer.pipeline.model))
        calibrate()

    trainer.pipeline.calibrate = spy  # type: ignore[method-assign]
    trainer.train()
    path = trainer.checkpoint_dir / checkpoint_name(3)
    saved = torch.load(path, weights_only=True)  # weights_only refuses numpy scalars and pickled code
    found = {k.removeprefix("_model."): v for k, v in saved["pipeline"].items() if ".norm." in k}
    kept = {k: v for k, v in found.items() if k in moving[0]}
    assert not same_tensors(kept, moving[0])
    trainer.pipeline._is_stale = True
    calibrate()
    assert same_tensors(kept, statistics(trainer.pipeline.model))
    assert not [key for key in saved["pipeline"] if "lpips" in key]
    assert saved["schedulers"].keys() == saved["optimizers"].keys() == {"hidden_matrices", "fields"}


@pytest.mark.parametrize("norm", ALL_NORMS)
def test_every_norm_trains_saves_and_resumes(norm: str, capture: Path, tmp_path: Path) -> None:
    config = trainer_config(tmp_path, capture, steps=2)
    config.pipeline.model.norm = norm  # type: ignore[attr-defined]
    first = make_trainer(config)
    start = parameters(first.pipeline)
    first.train()
    config.load_dir = first.checkpoint_dir
    second = make_trainer(config)
    assert second._start_step == 2
    assert same_tensors(statistics(second.pipeline.model), statistics(first.pipeline.model))
    assert same_tensors(parameters(second.pipeline), parameters(first.pipeline))
    assert not same_tensors(parameters(second.pipeline), start)
    second.train()
    state = torch.load(second.checkpoint_dir / checkpoint_name(3), weights_only=True)["pipeline"]
    assert all(value.isfinite().all() for value in state.values())


def test_cameras_that_all_look_away_train_without_error_or_effect(capture: Path, tmp_path: Path) -> None:
    """No sample is inside the box, so there is nothing to normalise or to learn."""
    folder = shutil.copytree(capture, tmp_path / "away")
    for path in folder.glob("transforms_*.json"):
        meta = json.loads(path.read_text())
        for frame in meta["frames"]:
            pose = np.array(frame["transform_matrix"])
            pose[:3, [0, 2]] *= -1
            frame["transform_matrix"] = pose.tolist()
        path.write_text(json.dumps(meta))
    trainer = make_trainer(trainer_config(tmp_path, folder, steps=3, steps_per_eval_batch=1))
    weights, exact = parameters(trainer.pipeline), statistics(trainer.pipeline.model)
    trainer.train()
    assert (trainer.checkpoint_dir / checkpoint_name(2)).is_file()
    assert same_tensors(parameters(trainer.pipeline), weights)
    assert same_tensors(statistics(trainer.pipeline.model), exact)


def test_gradients_add_up_over_steps_and_statistics_see_each_of_them(capture: Path, tmp_path: Path) -> None:
    groups = {"hidden_matrices": 2, "fields": 2}
    trainer = make_trainer(trainer_config(tmp_path, capture, steps=4, gradient_accumulation_steps=groups))
    model = trainer.pipeline.model
    weights, counts = [parameters(trainer.pipeline)], []
    for step in range(4):
        trainer.pipeline.train()
        trainer.train_iteration(step)
        weights.append(parameters(trainer.pipeline))
        counts.append(int(model.field_fine.trunk.layers[0].norm.num_batches_tracked))
    assert [same_tensors(*pair) for pair in itertools.pairwise(weights)] == [True, False] * 2
    assert counts == [1, 2, 3, 4]


# ------------------------------------------------------------------------------------- frozen statistics


def freezing_config(output_dir: Path, capture: Path, share: float, **options: object) -> BNTrainerConfig:
    config = trainer_config(output_dir, capture, **{"steps": 4, **options})  # type: ignore[arg-type]
    config.pipeline.model.freeze_norm_at = share  # type: ignore[attr-defined]
    return config


def modes(pipeline: BNPipeline) -> set[StatisticsMode]:
    return {norm.mode for norm in running_norms(pipeline.model)}


@pytest.mark.parametrize("norm", RUNNING)
def test_statistics_are_exact_when_they_are_frozen_and_stay(norm: str, capture: Path, tmp_path: Path) -> None:
    config = freezing_config(tmp_path, capture, 0.5)
    config.pipeline.model.norm = norm  # type: ignore[attr-defined]
    trainer = make_trainer(config)
    pipeline = trainer.pipeline
    freeze, frozen, calls = pipeline.freeze, [], []

    def spy() -> None:
        moving, weights = statistics(pipeline.model), parameters(pipeline)
        freeze()
        frozen.append((trainer.step, statistics(pipeline.model), weights))
        assert not same_tensors(frozen[0][1], moving)
        pipeline.is_frozen, pipeline._is_stale = False, True
        pipeline.calibrate()
        pipeline.is_frozen = True
        assert same_tensors(frozen[0][1], statistics(pipeline.model))
        pipeline.datamanager.train_ray_generator.register_forward_hook(lambda *_: calls.append(1))

    pipeline.freeze = spy  # type: ignore[method-assign]
    trainer.train()
    ((step, exact, weights),) = frozen
    assert step == 2
    assert len(calls) == 2, "more rays were drawn than those of the two steps that were left"
    learnt = parameters(pipeline)
    assert not any(torch.equal(learnt[name], weights[name]) for name in learnt if ".norm." in name)
    for evaluate in EVALUATIONS.values():
        evaluate(pipeline)
    assert len(calls) == 2, "evaluation computed the statistics again"
    assert same_tensors(statistics(pipeline.model), exact)
    assert pipeline.training
    assert modes(pipeline) == {StatisticsMode.FROZEN}
    state = torch.load(trainer.checkpoint_dir / checkpoint_name(3), weights_only=True)
    assert state["norm_is_frozen"] is True
    saved = {name.removeprefix("_model."): value for name, value in state["pipeline"].items()}
    assert same_tensors({name: saved[name] for name in exact}, exact)


def test_a_resumed_run_stays_frozen(capture: Path, tmp_path: Path) -> None:
    first = make_trainer(freezing_config(tmp_path / "first", capture, 0.5))
    first.train()
    exact = statistics(first.pipeline.model)
    again = freezing_config(tmp_path / "second", capture, 1.0, steps=2, load_dir=first.checkpoint_dir)
    second = make_trainer(again)
    assert second.pipeline.is_frozen
    second.train()
    assert same_tensors(statistics(second.pipeline.model), exact)
    state = torch.load(second.checkpoint_dir / checkpoint_name(5), weights_only=True)
    assert state["norm_is_frozen"] is True


@pytest.mark.parametrize(("share", "stays"), [(1.0, False), (0.5, True), (0.9, False)])
def test_a_resumed_run_that_was_not_frozen_counts_all_steps(
    share: float, stays: bool, capture: Path, tmp_path: Path
) -> None:
    """Half of 4 + 2 steps are over, but not nine tenths of them."""
    first = make_trainer(freezing_config(tmp_path / "first", capture, 1.0))
    first.train()
    exact = statistics(first.pipeline.model)
    assert "norm_is_frozen" not in torch.load(first.checkpoint_dir / checkpoint_name(3), weights_only=True)
    second = make_trainer(
        freezing_config(tmp_path / "second", capture, share, steps=2, load_dir=first.checkpoint_dir)
    )
    assert not second.pipeline.is_frozen
    second.train()
    assert second.pipeline.is_frozen == stays
    assert same_tensors(statistics(second.pipeline.model), exact) == stays


@pytest.mark.parametrize("share", [0.0, -1.0, 2.0, math.nan])
def test_a_share_out_of_its_range_is_told_in_one_line(
    share: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        make_trainer(freezing_config(tmp_path, tmp_path / "no-data-are-read", share))
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --pipeline.model.freeze-norm-at is {share:g}: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_without_running_statistics_there_is_nothing_to_freeze(
    norm: str, capture: Path, tmp_path: Path
) -> None:
    config = freezing_config(tmp_path, capture, 0.5, steps=2)
    config.pipeline.model.norm = norm  # type: ignore[attr-defined]
    trainer = make_trainer(config)
    trainer.train()
    assert not trainer.pipeline.is_frozen
    assert "norm_is_frozen" not in torch.load(trainer.checkpoint_dir / checkpoint_name(1), weights_only=True)


def test_methods_without_the_option_never_freeze() -> None:
    assert _share_before_freezing(PlenoxelModelConfig()) == 1.0


# ------------------------------------------------------------------------------------ loaded checkpoints


@pytest.mark.parametrize("norm", ["none", "batch", "cross"])
def test_a_loaded_pipeline_renders_what_the_saved_one_did(norm: str, capture: Path) -> None:
    saved, loaded = tiny_pipeline(capture, norm=norm), tiny_pipeline(capture, norm=norm, seed=9)
    train_steps(saved, 3)
    saved.calibrate()
    loaded.load_pipeline(saved.state_dict(), 2)
    assert loaded.get_average_eval_image_metrics()["psnr"] == saved.get_average_eval_image_metrics()["psnr"]
    assert same_tensors(statistics(loaded.model), statistics(saved.model))


def state_of(norm: str, **options: object) -> dict[str, torch.Tensor]:
    model = tiny_model(norm=norm, **options)
    return {f"_model.{name}": value for name, value in model.state_dict().items()}


def test_a_checkpoint_that_fits_is_accepted() -> None:
    for prefix in ("", "module."):
        state = {prefix + name: value for name, value in state_of("batch").items()}
        check_model_state(tiny_model().state_dict(), {**state, "datamanager.x": torch.zeros(1)})


@pytest.mark.parametrize("trained", ALL_NORMS)
@pytest.mark.parametrize("loaded", ALL_NORMS)
def test_a_checkpoint_of_another_norm_is_refused(trained: str, loaded: str) -> None:
    if trained == loaded:
        return
    with pytest.raises(UserError, match=r"norm.*config\.yml") as caught:
        check_model_state(tiny_model(norm=loaded).state_dict(), state_of(trained))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("norm", RUNNING)
def test_a_checkpoint_without_statistics_is_refused(norm: str) -> None:
    """nerfstudio would keep the statistics of a new network, and render nonsense without a word."""
    expected = tiny_model(norm=norm).state_dict()
    buffers = [name for name, _ in tiny_model(norm=norm).named_buffers() if ".norm." in name]
    for lost in (buffers, buffers[:1], [b for b in buffers if "tracked" in b]):
        state = {k: v for k, v in state_of(norm).items() if k.removeprefix("_model.") not in lost}
        with pytest.raises(UserError, match="lacks the norm's statistics"):
            check_model_state(expected, state)


@pytest.mark.parametrize("change", [{"width": 24}, {"num_features": 9}, {"position_frequencies": 4}])
def test_a_checkpoint_of_another_size_is_refused(change: dict[str, int]) -> None:
    other = tiny_sizes()
    for name, value in change.items():
        setattr(other, name, value)
    with pytest.raises(UserError, match=r"has shape .* another width, norm or encoding; load it with"):
        check_model_state(tiny_model().state_dict(), state_of("batch", fine=other))


@pytest.mark.parametrize("depth", [1, 3])
def test_a_checkpoint_of_another_depth_is_refused(depth: int) -> None:
    other = tiny_sizes()
    other.depth = depth
    with pytest.raises(UserError, match="another method, depth or"):
        check_model_state(tiny_model().state_dict(), state_of("batch", fine=other))


def test_a_checkpoint_that_does_not_fit_raises_and_changes_nothing(capture: Path) -> None:
    pipeline = tiny_pipeline(capture)
    before = parameters(pipeline)
    with pytest.raises(UserError, match=r"--pipeline\.model\.norm"):
        pipeline.load_pipeline(state_of("layer"), 0)
    assert sys.excepthook.__name__ == "hook"  # which tells it in one line where nobody catches it
    assert same_tensors(parameters(pipeline), before)


# --------------------------------------------------------------------------------------------------- data


@pytest.mark.slow
def test_scenes_are_bounded_where_the_data_says_so(
    capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BN_FIELD_CACHE", str(tmp_path / "cache"))
    config = tiny_pipeline_config(capture, scene="auto")
    assert config.setup(device="cpu").config.model.scene == "bounded"
    assert config.model.scene == "auto"  # the caller's config, which is saved, stays as it was
    config.datamanager.data = None
    config.datamanager.dataparser = BNDemoDataParserConfig(
        image_size=8, num_train=2, num_val=1, num_test=1, samples=1
    )
    assert config.setup(device="cpu").config.model.scene == "bounded"
    config.datamanager.dataparser = NerfstudioDataParserConfig(
        data=write_nerfstudio_capture(tmp_path / "capture", image_size=8, num_views=12)
    )
    assert config.setup(device="cpu").config.model.scene == "unbounded"
    config.datamanager.dataparser = BNCaptureDataParserConfig(width=16, height=9, num_views=8, samples=1)
    assert config.setup(device="cpu").config.model.scene == "unbounded"
    config.model.scene = "bounded"
    assert config.setup(device="cpu").config.model.scene == "bounded"


@pytest.mark.parametrize(("mode", "split"), [("val", "val"), ("test", "test")])
def test_a_missing_split_is_told(mode: str, split: str, capture: Path, tmp_path: Path) -> None:
    """Training needs the validation views but no test views, and ns-eval the other way round."""
    folder = shutil.copytree(capture, tmp_path / "capture")
    (folder / f"transforms_{split}.json").unlink()
    config = tiny_pipeline_config(folder)
    with pytest.raises(UserError, match=rf"transforms_{split}\.json is missing"):
        config.setup(device="cpu", test_mode=mode)
    config.setup(device="cpu", test_mode="test" if mode == "val" else "val")


@pytest.mark.parametrize("mode", ["val", "test", "inference"])
def test_missing_data_is_told(mode: str, tmp_path: Path) -> None:
    config = tiny_pipeline_config(tmp_path / "nowhere")
    with pytest.raises(UserError, match="nowhere does not exist"):
        config.setup(device="cpu", test_mode=mode)
    assert sys.excepthook.__name__ == "hook"  # which tells it in one line where nobody catches it


def test_batches_of_few_rays_are_joined_for_exact_statistics(capture: Path) -> None:
    """Without joining, batches of 4 rays made calibration take 2,048 passes for each norm."""
    pipeline = tiny_pipeline(capture, rays_per_batch=4, calibration_rays=200)
    batches = pipeline.exact_rays()
    assert [len(rays) for rays in batches] == [200]
    assert len(pipeline.datamanager.next_train(0)[0]) == 4
