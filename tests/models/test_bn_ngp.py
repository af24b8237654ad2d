"""instant-ngp with BN-MLPs, as far as a CPU goes: nerfacc's CUDA kernels have stand-ins in torch here."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.engine.callbacks import TrainingCallbackAttributes
from nerfstudio.models import instant_ngp
from torch import Tensor

from bn_field_plugin.models.bn_ngp import BNNGPModel, BNNGPModelConfig, resolved
from bn_field_plugin.nn import NormName, UserError, calibrate, running_norms
from tests.nn.cases import NORMED, RUNNING, vary
from tests.scenes import BOX, rays, same_tensors, statistics

SAMPLES_PER_RAY = 6


def tiny_ngp(device: str | None = None, **options: Any) -> BNNGPModel:
    settings: dict[str, Any] = {
        "hidden_dim": 16,
        "hidden_dim_color": 16,
        "num_levels": 3,
        "max_res": 16,
        "base_res": 4,
        "log2_hashmap_size": 8,
        "grid_resolution": 4,
        "implementation": "torch",
        "scene": "bounded",
    }
    torch.manual_seed(0)
    config = BNNGPModelConfig(**{**settings, **options})
    more = {} if device is None else {"device": device}
    model: BNNGPModel = config.setup(scene_box=SceneBox(BOX), num_train_data=3, **more)
    vary(model)
    return model


def update_grid(model: BNNGPModel, step: int = 0) -> None:
    """What the trainer does before each step."""
    (callback,) = model.get_training_callbacks(
        TrainingCallbackAttributes(optimizers=None, grad_scaler=None, pipeline=None, trainer=None)  # type: ignore[arg-type]
    )
    callback.run_callback(step)


@pytest.fixture
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[BNNGPModel], BNNGPModel]:
    """Put torch in place of nerfacc's kernels: even steps along rays, skipped where there is no density."""

    def sampling(rays_o: Tensor, rays_d: Tensor, sigma_fn: Any, **_: Any) -> tuple[Tensor, Tensor, Tensor]:
        starts = torch.linspace(3, 5, SAMPLES_PER_RAY + 1)[:-1].repeat(len(rays_o))
        indices = torch.arange(len(rays_o)).repeat_interleave(SAMPLES_PER_RAY)
        ends = starts + 2 / SAMPLES_PER_RAY
        if sigma_fn is not None:
            keep = sigma_fn(starts, ends, indices) > 0
            starts, ends, indices = starts[keep], ends[keep], indices[keep]
        return indices, starts, ends

    def pack_info(indices: Tensor, num_rays: int) -> Tensor:
        counts = torch.bincount(indices, minlength=num_rays)
        return torch.stack([counts.cumsum(0) - counts, counts], dim=-1)

    def render_weight_from_density(
        t_starts: Tensor, t_ends: Tensor, sigmas: Tensor, packed_info: Tensor
    ) -> tuple[Tensor]:
        chunks = (sigmas * (t_ends - t_starts)).split(packed_info[:, 1].tolist())
        return (torch.cat([torch.exp(-(x.cumsum(0) - x)) * -torch.expm1(-x) for x in chunks]),)

    stand_in = SimpleNamespace(pack_info=pack_info, render_weight_from_density=render_weight_from_density)

    def patch(model: BNNGPModel) -> BNNGPModel:
        monkeypatch.setattr(instant_ngp, "nerfacc", stand_in)
        monkeypatch.setattr(model.occupancy_grid, "sampling", sampling)
        return model

    return patch


def loss_of(model: BNNGPModel) -> Tensor:
    batch = {"image": torch.rand(20, 4, generator=torch.Generator().manual_seed(1))}
    return torch.stack(list(model.get_loss_dict(model(rays(20)), batch).values())).sum()


@pytest.mark.parametrize("norm", RUNNING)
def test_updates_of_the_occupancy_grid_leave_the_statistics(
    norm: NormName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, also for a grid that calls with gradients, which nerfacc's does not."""
    model = tiny_ngp(norm=norm).train()
    before = statistics(model)
    occupied: list[Tensor] = []

    def update(step: int, occ_eval_fn: Callable[[Tensor], Tensor]) -> None:
        with torch.enable_grad():
            occupied.append(occ_eval_fn(torch.rand(50, 3) * 2 - 1))

    monkeypatch.setattr(model.occupancy_grid, "update_every_n_steps", update)
    update_grid(model)
    assert occupied[0].shape == (50, 1)
    assert (occupied[0] > 0).all()
    assert same_tensors(statistics(model), before)
    assert model.training


@pytest.mark.parametrize("step", [0, 320])
def test_nerfaccs_own_update_fills_the_grid_and_leaves_the_statistics(step: int) -> None:
    """All cells in the first steps, uniform and occupied ones later."""
    model = tiny_ngp().train()
    before = statistics(model)
    assert isinstance(model.occupancy_grid, instant_ngp.nerfacc.OccGridEstimator)
    update_grid(model, step)
    assert model.occupancy_grid.occs.max() > 0
    assert same_tensors(statistics(model), before)


@pytest.mark.parametrize("norm", ["none", *NORMED])
def test_it_trains_and_renders_packed_samples(
    norm: NormName, on_a_cpu: Callable[[BNNGPModel], BNNGPModel]
) -> None:
    model = on_a_cpu(tiny_ngp(norm=norm)).train()
    before = statistics(model)
    loss_of(model).backward()
    assert model.field.mlp_base.encoding.hash_table.grad.abs().sum() > 0
    if norm in RUNNING:
        assert not same_tensors(statistics(model), before)
    with torch.no_grad():
        outputs = model.eval()(rays(20))
    for name, size in (("rgb", 3), ("depth", 1), ("accumulation", 1)):
        assert outputs[name].shape == (20, size)
        assert outputs[name].isfinite().all()
    assert model.get_rgba_image(outputs).shape == (20, 4)


@pytest.mark.parametrize("norm", RUNNING)
def test_sampling_and_evaluation_leave_the_statistics(
    norm: NormName, on_a_cpu: Callable[[BNNGPModel], BNNGPModel]
) -> None:
    """The sampler asks the field for densities at each step, to skip empty space."""
    model = on_a_cpu(tiny_ngp(norm=norm)).train()
    asked: list[int] = []
    density_fn = model.sampler.density_fn
    model.sampler.density_fn = lambda x: (asked.append(len(x)), density_fn(x))[1]
    before = statistics(model)
    with torch.enable_grad():
        model.sampler(rays(20), render_step_size=0.1)
    assert asked == [20 * SAMPLES_PER_RAY]
    with torch.no_grad():
        model(rays(20))
    model.eval()(rays(20))
    assert same_tensors(statistics(model), before)


def test_statistics_can_be_made_exact(on_a_cpu: Callable[[BNNGPModel], BNNGPModel]) -> None:
    model = on_a_cpu(tiny_ngp()).train()
    assert calibrate(model, [rays(16, seed=seed) for seed in range(3)]) == len(running_norms(model))


def test_where_all_space_is_empty_a_step_changes_no_statistics(
    on_a_cpu: Callable[[BNNGPModel], BNNGPModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """nerfstudio's sampler then makes up one sample, which on its own has no variance."""
    model = on_a_cpu(tiny_ngp(scene="unbounded")).train()
    monkeypatch.setattr(model.sampler, "density_fn", lambda x: torch.zeros_like(x[..., :1]))
    before = statistics(model)
    loss_of(model).backward()
    assert same_tensors(statistics(model), before)


def test_another_device_than_cuda_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="bn-ngp needs CUDA; on a CPU take bn-nerf-small"):
        tiny_ngp(device="cpu")


def test_a_bounded_scene_is_one_grid_over_the_box() -> None:
    model = tiny_ngp()
    assert model.field.spatial_distortion is None
    assert model.occupancy_grid.levels == 1
    assert (model.config.alpha_thre, model.config.cone_angle) == (0, 0)
    assert model.renderer_rgb.background_color == "white"


def test_captures_keep_instant_ngps_settings() -> None:
    config = BNNGPModelConfig(scene="unbounded")
    kept = resolved(config)
    assert kept.background_color == "random"
    names = ("grid_levels", "alpha_thre", "cone_angle", "near_plane", "disable_scene_contraction")
    assert all(getattr(kept, name) == getattr(config, name) for name in names)
    assert tiny_ngp(scene="unbounded").field.spatial_distortion is not None


def test_nothing_is_fetched_and_no_lpips_enters_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("tried to fetch weights")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    assert not [name for name in tiny_ngp().state_dict() if "lpips" in name]


def test_pictures_show_truth_and_rendering_side_by_side() -> None:
    model = tiny_ngp()
    rendered = {"rgb": torch.rand(12, 13, 3), "accumulation": torch.rand(12, 13, 1)}
    outputs = rendered | {"depth": 1 + torch.rand(12, 13, 1)}
    metrics, pictures = model.get_image_metrics_and_images(outputs, {"image": torch.rand(12, 13, 4)})
    assert metrics.keys() >= {"psnr", "ssim"}
    assert pictures["img"].shape == (12, 26, 3)
