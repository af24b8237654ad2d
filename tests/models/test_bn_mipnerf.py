"""mip-NeRF: one field in both passes, with statistics of its own for each."""

import copy
import io
import random
from typing import Any

import pytest
import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import SceneBox
from torch import nn

from bn_field_plugin.engine.pipeline import CALIBRATION_SEED, BNPipeline, private_random_numbers
from bn_field_plugin.models.bn_mipnerf import BNMipNeRFModel, BNMipNeRFModelConfig
from bn_field_plugin.nn import NormName, batch_statistics, fold_norm, frozen_statistics, running_norms
from tests.captures import write_blender_capture
from tests.nn.cases import NORMED, RUNNING, vary
from tests.scenes import BOX, rays, same_tensors, statistics, tiny_pipeline_config, tiny_sizes, train_steps


def tiny_mip_config(**options: Any) -> BNMipNeRFModelConfig:
    settings: dict[str, Any] = {
        "network": tiny_sizes(),
        "num_coarse_samples": 8,
        "num_fine_samples": 8,
        "scene": "bounded",
        "eval_num_rays_per_chunk": 64,
        "calibration_rays": 96,
    }
    return BNMipNeRFModelConfig(**{**settings, **options})


def tiny_mip(**options: Any) -> BNMipNeRFModel:
    torch.manual_seed(0)
    model: BNMipNeRFModel = tiny_mip_config(**options).setup(scene_box=SceneBox(BOX), num_train_data=1)
    vary(model)
    return model


def loss_of(model: BNMipNeRFModel, num: int = 40) -> torch.Tensor:
    batch = {"image": torch.rand(num, 4, generator=torch.Generator().manual_seed(5))}
    return torch.stack(list(model.get_loss_dict(model(rays(num)), batch).values())).sum()


def inputs_of(module: nn.Module) -> list[Any]:
    """Record the inputs of a module's calls from now on."""
    seen: list[Any] = []
    module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    return seen


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> BNPipeline:
    """A pipeline after some steps of training, whose running statistics lag."""
    folder = tmp_path_factory.mktemp("mipnerf") / "blender"
    write_blender_capture(folder, image_size=16, num_train=4, num_val=2, num_test=2)
    config = tiny_pipeline_config(folder)
    config.model = tiny_mip_config(scene="auto")
    torch.manual_seed(0)
    random.seed(0)
    made: BNPipeline = config.setup(device="cpu")
    train_steps(made, 5)
    return made


@pytest.mark.parametrize("scene", ["bounded", "unbounded"])
@pytest.mark.parametrize("norm", ["none", *NORMED])
def test_outputs_have_the_names_that_nerfstudio_reads(norm: NormName, scene: str) -> None:
    model = tiny_mip(norm=norm, scene=scene)
    sizes = {"rgb": 3, "depth": 1, "accumulation": 1}
    trained = model.train()(rays(20))
    assert trained.keys() - sizes.keys() == {"rgb_coarse", "accumulation_coarse"}
    evaluated = model.eval()(rays(20))
    assert {name: value.shape for name, value in evaluated.items()} == {
        name: (20, n) for name, n in (sizes | {"normals": 3}).items()
    }
    assert all(value.isfinite().all() for value in (trained | evaluated).values())
    assert model.get_rgba_image(evaluated).shape == (20, 4)
    loss = loss_of(model.train())
    loss.backward()
    for name, parameter in model.named_parameters():
        if name != "device_indicator_param":
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("norm", RUNNING)
def test_each_pass_has_the_statistics_of_its_own_samples(norm: NormName) -> None:
    """Oracle: each pass moves its first norm's statistics towards the moments of its own inputs."""
    model = tiny_mip(norm=norm).train()
    fields = (model.field_coarse, model.field_fine)
    seen = [inputs_of(field.trunk) for field in fields]
    before = [field.trunk.layers[0].norm.running_mean.clone() for field in fields]
    model(rays(40))
    for field, (samples,), old in zip(fields, seen, before, strict=True):
        layer = field.trunk.layers[0]
        products = layer.linear(field.trunk.encoding(samples))
        mean = products.mean() if norm == "global" else products.mean(dim=0)
        torch.testing.assert_close(layer.norm.running_mean, 0.9 * old + 0.1 * mean)
    assert not torch.allclose(seen[0][0][:, 3:].mean(dim=0), seen[1][0][:, 3:].mean(dim=0), rtol=0.1)


@pytest.mark.parametrize("norm", ["none", *NORMED])
def test_there_is_one_network(norm: NormName) -> None:
    """Optimizers have each parameter once, and Muon has hidden matrices alone."""
    model = tiny_mip(norm=norm)
    coarse, fine = model.field_coarse, model.field_fine
    assert all(a is b for a, b in zip(coarse.parameters(), fine.parameters(), strict=True))
    assert not set(running_norms(coarse)) & set(running_norms(fine))
    groups = model.get_param_groups()
    grouped = [id(p) for group in groups.values() for p in group]
    assert sorted(grouped) == sorted(id(p) for p in fine.parameters())
    assert [tuple(p.shape) for p in groups["hidden_matrices"]] == [(16, 16)]


def test_a_checkpoint_holds_the_weights_once_and_both_sets_of_statistics() -> None:
    model, other = tiny_mip(), tiny_mip()
    loss_of(model.train()).backward()
    content = io.BytesIO()
    torch.save(model.state_dict(), content)
    content.seek(0)
    state = torch.load(content, weights_only=True)
    shared = {name for name, _ in model.field_fine.named_parameters()}
    for name in model.field_fine.state_dict():
        places = [state[f"{field}.{name}"].data_ptr() for field in ("field_coarse", "field_fine")]
        assert (places[0] == places[1]) == (name in shared)
    other.load_state_dict(state)
    assert same_tensors(statistics(other), statistics(model))
    pairs = zip(other.field_coarse.parameters(), other.field_fine.parameters(), strict=True)
    assert all(a is b for a, b in pairs)
    assert same_tensors(other.eval()(rays(20)), model.eval()(rays(20)))


def test_both_sets_are_exact_after_calibration(pipeline: BNPipeline) -> None:
    """With all calibration rays in one pass, exact statistics and batch statistics give the same."""
    model = pipeline.model
    for sampler in (model.sampler_coarse, model.sampler_fine):
        sampler.train_stratified = False
    pipeline.calibrate()
    with private_random_numbers(CALIBRATION_SEED):
        bundles = [pipeline.datamanager.next_train(0)[0] for _ in range(2)]  # 96 rays, 48 at a time
    names = ("origins", "directions", "pixel_area", "camera_indices")
    joined = RayBundle(**{name: torch.cat([getattr(b, name) for b in bundles]) for name in names})
    model.train()
    with torch.no_grad():
        exact = model(copy.copy(joined))
        with batch_statistics(model):
            expected = model(joined)
    torch.testing.assert_close(exact, expected, rtol=1e-4, atol=1e-5)
    first = [field.trunk.layers[0].norm.running_var for field in (model.field_coarse, model.field_fine)]
    assert not torch.allclose(*first, rtol=0.01)


def test_pixels_do_not_depend_on_the_chunks(pipeline: BNPipeline) -> None:
    model = pipeline.model.eval()
    with torch.no_grad():
        model.config.eval_num_rays_per_chunk = 150
        whole = model(rays(150))
        model.config.eval_num_rays_per_chunk = 7
        torch.testing.assert_close(model(rays(150)), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", ["batch", "global"])
def test_each_pass_folds_its_own_statistics(norm: NormName) -> None:
    """Evaluation folds norms into weights. The passes share weights and have different norms."""
    model = tiny_mip(norm=norm).eval()
    coarse, fine = (fold_norm(field.trunk) for field in (model.field_coarse, model.field_fine))
    assert not torch.allclose(coarse.layers[0].linear.weight, fine.layers[0].linear.weight, rtol=0.01)
    unfolded = model(rays(30))
    with torch.no_grad():
        torch.testing.assert_close(model(rays(30)), unfolded, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", RUNNING)
def test_only_training_passes_change_statistics(norm: NormName) -> None:
    model = tiny_mip(norm=norm)
    before = statistics(model)
    model.eval()(rays(30))
    model.get_outputs_for_camera_ray_bundle(rays(12).reshape((3, 4)))
    with torch.no_grad():
        model.train()(rays(30))
    with frozen_statistics(model):
        loss_of(model.train()).backward()
    assert same_tensors(statistics(model), before)
    model.train()(rays(30))
    after = statistics(model)
    assert all(not torch.equal(after[name], value) for name, value in before.items() if "count" not in name)


def test_the_defaults_are_the_papers() -> None:
    config = BNMipNeRFModelConfig()
    network = config.network
    assert (network.depth, network.width, network.skips) == (8, 256, (4,))
    assert (network.position_frequencies, network.direction_frequencies) == (16, 4)
    assert (config.num_coarse_samples, config.num_fine_samples) == (128, 128)
    assert config.loss_coefficients == {"rgb_loss_coarse": 0.1, "rgb_loss_fine": 1.0}
