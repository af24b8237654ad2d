"""The hash-grid method: it trains and renders both kinds of scenes, and its sampling leaves no trace."""

from typing import Any

import pytest
import torch
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.engine.callbacks import TrainingCallbackAttributes
from torch import Tensor

from bn_field_plugin.errors import UserError
from bn_field_plugin.models.bn_ngp import BNNGPModel, BNNGPModelConfig
from bn_field_plugin.models.proposal_renderer import ProposalConfig
from bn_field_plugin.nn import HashGridEncoding, NormName, calibrate, running_norms
from tests.nn.cases import NORMED, RUNNING, vary
from tests.scenes import BOX, rays, same_tensors, statistics
from tests.scenes import tiny_ngp_config as tiny_config


def tiny_ngp(**options: Any) -> BNNGPModel:
    torch.manual_seed(0)
    model: BNNGPModel = tiny_config(**options).setup(scene_box=SceneBox(BOX), num_train_data=3)
    vary(model)
    return model


def follow(model: BNNGPModel, step: int = 0) -> None:
    """Call the callbacks that the trainer calls before each step."""
    (callback,) = model.get_training_callbacks(
        TrainingCallbackAttributes(optimizers=None, grad_scaler=None, pipeline=None, trainer=None)  # type: ignore[arg-type]
    )
    callback.run_callback(step)


def pictures(num: int, channels: int = 4) -> dict[str, Tensor]:
    return {"image": torch.rand(num, channels, generator=torch.Generator().manual_seed(1))}


def loss_of(model: BNNGPModel, channels: int = 4) -> Tensor:
    losses = model.get_loss_dict(model(rays(20)), pictures(20, channels))
    return torch.stack(list(losses.values())).sum()


@pytest.mark.parametrize("scene", ["bounded", "unbounded"])
@pytest.mark.parametrize("norm", ["none", *NORMED])
def test_it_trains_and_renders(norm: NormName, scene: str) -> None:
    model = tiny_ngp(norm=norm, scene=scene).train()
    follow(model)
    before = statistics(model)
    loss_of(model).backward()
    grid = model.field.grid
    assert isinstance(grid, HashGridEncoding) and grid.tables.grad is not None
    assert grid.tables.grad.abs().sum() > 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    if norm in RUNNING:
        assert not same_tensors(statistics(model), before)
    outputs = model.eval()(rays(20))
    for name, size in (("rgb", 3), ("depth", 1), ("accumulation", 1), ("normals", 3)):
        assert outputs[name].shape == (20, size)
        assert outputs[name].isfinite().all()
    assert model.get_rgba_image(outputs).shape == (20, 4)


def test_every_parameter_of_a_capture_is_trained() -> None:
    model = tiny_ngp(scene="unbounded").train()
    loss_of(model).backward()
    trained = [p for group in model.get_param_groups().values() for p in group]
    assert len(trained) == len(
        [p for p in model.parameters() if p.numel()]
    )  # the device's indicator is empty
    assert all(p.grad is not None for p in trained)


@pytest.mark.parametrize("norm", RUNNING)
@pytest.mark.parametrize("step", [0, 320])
def test_updates_of_the_occupancy_grid_leave_the_statistics(norm: NormName, step: int) -> None:
    model = tiny_ngp(norm=norm).train()
    before = statistics(model)
    follow(model, step)
    assert same_tensors(statistics(model), before)
    assert model.training
    assert model.occupancy is not None
    assert model.occupancy.grid.densities.max() > 0


@pytest.mark.parametrize("scene", ["bounded", "unbounded"])
@pytest.mark.parametrize("norm", RUNNING)
def test_evaluation_leaves_the_statistics(norm: NormName, scene: str) -> None:
    model = tiny_ngp(norm=norm, scene=scene).train()
    before = statistics(model)
    with torch.no_grad():
        model(rays(20))
    model.eval()(rays(20))
    assert same_tensors(statistics(model), before)


@pytest.mark.parametrize("scene", ["bounded", "unbounded"])
def test_statistics_can_be_made_exact(scene: str) -> None:
    model = tiny_ngp(scene=scene).train()
    assert calibrate(model, [rays(16, seed=seed) for seed in range(3)]) == len(running_norms(model))


@pytest.mark.parametrize("scene", ["bounded", "unbounded"])
def test_a_picture_does_not_depend_on_how_its_rays_are_split(scene: str) -> None:
    model = tiny_ngp(scene=scene).eval()
    whole = model(rays(40))
    model.config.eval_num_rays_per_chunk = 7
    parts = model(rays(40))
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-4, atol=1e-5)


def test_pictures_and_training_see_the_same_light() -> None:
    """Pictures skip samples behind opaque matter and training does not: they differ by these alone."""
    model = tiny_ngp().eval()
    assert model.occupancy is not None
    bundle = rays(40)
    ahead = model.occupancy.rays_of(bundle.origins, bundle.directions)
    with torch.no_grad():
        torch.manual_seed(0)
        waves = model.occupancy.render(model.field, ahead)
        once = _all_samples(model, ahead)
    torch.testing.assert_close(waves.color, once, rtol=0, atol=5e-3)


def _all_samples(model: BNNGPModel, ahead: Any) -> Tensor:
    from bn_field_plugin.sampling import composite, march

    assert model.occupancy is not None
    half = torch.full_like(ahead.nears, 0.5)
    samples = march(ahead, model.occupancy.grid.cells, model.occupancy.step, half).samples
    density, features = model.field.density_at(samples.positions(ahead))
    color = model.field.color_of(features, model.field.harmonics(ahead.directions)[samples.ray])
    return composite(density, color, samples).color


def test_rays_that_miss_the_box_see_the_background() -> None:
    model = tiny_ngp().eval()
    outputs = model(rays(10, toward=-1))
    assert (outputs["accumulation"] == 0).all()
    assert (outputs["rgb"] == 1).all()
    model.train()
    loss_of_missing = model.get_loss_dict(model(rays(10, toward=-1)), pictures(10))
    loss_of_missing["rgb_loss"].backward()


@pytest.mark.parametrize("norm", ["none", *NORMED])
def test_where_all_space_is_empty_a_step_changes_no_statistics(norm: NormName) -> None:
    model = tiny_ngp(norm=norm).train()
    assert model.occupancy is not None
    model.occupancy.grid.occupied.zero_()
    before = statistics(model)
    loss_of(model).backward()
    assert same_tensors(statistics(model), before)


def test_a_grid_that_empties_is_looked_at_again_and_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    model = tiny_ngp().train()
    assert model.occupancy is not None
    with torch.no_grad():
        model.field.trunk.output.weight.zero_()
        model.field.trunk.output.bias.fill_(-1e4)
    model.occupancy.num_rays.fill_(5000)
    follow(model)
    assert model.occupancy.grid.share == 1
    assert model.wanted_rays < 5000
    assert "occupancy grid has become empty" in capfd.readouterr().err


def test_a_step_adapts_its_rays_to_the_samples_wanted() -> None:
    model = tiny_ngp(samples_per_step=512).train()
    counts = []
    for _ in range(30):
        before = model.wanted_rays
        model(rays(before))
        counts.append(before)
    assert counts[-1] > counts[0]
    assert abs(counts[-1] - counts[-2]) <= 0.5 * counts[-2]


def test_the_number_of_rays_goes_on_from_a_checkpoint() -> None:
    model = tiny_ngp().train()
    assert model.occupancy is not None
    model.occupancy.num_rays.fill_(123)
    other = tiny_ngp()
    other.load_state_dict(model.state_dict())
    assert other.wanted_rays == 123


def test_pictures_with_alpha_train_on_random_colours_and_others_on_one() -> None:
    """Over random colours, a ray that sees nothing is right only if it is transparent."""
    model = tiny_ngp(background_color="auto").train()
    nothing = {"rgb": torch.zeros(50, 3), "accumulation": torch.zeros(50, 1)}
    clear = {"image": torch.zeros(50, 4)}
    white = {"image": torch.ones(50, 3)}
    fog = {"rgb": torch.ones(50, 3), "accumulation": torch.ones(50, 1)}
    assert model.get_loss_dict(nothing, clear)["rgb_loss"] == 0
    assert model.get_loss_dict(fog, clear)["rgb_loss"] > 0.1
    assert model.get_loss_dict(nothing, white)["rgb_loss"] == 0
    assert model.get_loss_dict(fog, white)["rgb_loss"] == 0


@pytest.mark.parametrize(
    ("scene", "background", "keeps"),
    [
        ("bounded", "auto", True),
        ("bounded", "random", True),
        ("bounded", "white", False),
        ("unbounded", "auto", False),
    ],
)
def test_alpha_is_kept_where_backgrounds_are_random(scene: Any, background: Any, keeps: bool) -> None:
    assert BNNGPModelConfig(scene=scene, background_color=background).keeps_alpha is keeps


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps_per_ray": 1}, "steps-per-ray is 1"),
        ({"samples_per_step": 0}, "samples-per-step is 0"),
        ({"grid_resolution": 1}, "resolution is 1"),
        ({"scene": "unbounded", "proposals": ProposalConfig(num_samples=())}, "num-samples"),
    ],
)
def test_numbers_out_of_their_range_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny_ngp(**options)


def test_a_box_without_volume_is_one_line() -> None:
    with pytest.raises(UserError, match="no volume"):
        tiny_config().setup(scene_box=SceneBox(torch.zeros(2, 3)), num_train_data=1)


def test_cameras_can_be_refined() -> None:
    from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig

    for scene in ("bounded", "unbounded"):
        model = tiny_ngp(scene=scene, camera_optimizer=CameraOptimizerConfig(mode="SO3xR3")).train()
        loss_of(model).backward()
        (pose,) = model.get_param_groups()["camera_opt"]
        assert pose.grad is not None and pose.grad.abs().sum() > 0


def test_pictures_show_truth_and_rendering_side_by_side() -> None:
    model = tiny_ngp().eval()
    rendered = {"rgb": torch.rand(12, 13, 3), "accumulation": torch.rand(12, 13, 1)}
    outputs = rendered | {"depth": 1 + torch.rand(12, 13, 1)}
    metrics, shown = model.get_image_metrics_and_images(outputs, {"image": torch.rand(12, 13, 4)})
    assert metrics.keys() >= {"psnr", "ssim"}
    assert shown["img"].shape == (12, 26, 3)
