"""The coarse-to-fine model: outputs that nerfstudio reads, and samples that its norms see."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor, nn

from bn_field_plugin.errors import UserError
from bn_field_plugin.lpips import LPIPS_WEIGHTS
from bn_field_plugin.models.bn_nerf import BNNeRFModel
from bn_field_plugin.models.colliders import UNBOUNDED_FAR, UNBOUNDED_NEAR
from bn_field_plugin.nn import CoordinateMLP, running_norms
from tests.nn.cases import NORMED, RUNNING
from tests.scenes import rays, same_tensors, statistics, tiny_model

ALL_NORMS = ["none", *NORMED]


def batch_of(num: int, channels: int = 4) -> dict[str, Tensor]:
    return {"image": torch.rand(num, channels, generator=torch.Generator().manual_seed(5))}


def training_loss(model: BNNeRFModel, bundle: RayBundle) -> Tensor:
    model.train()
    losses = model.get_loss_dict(model(bundle), batch_of(len(bundle)))
    return torch.stack(list(losses.values())).sum()


def inputs_of(module: nn.Module) -> list[Any]:
    """Record the inputs of a module's calls from now on."""
    seen: list[Any] = []
    module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    return seen


# ------------------------------------------------------------------------------------------------ outputs


@pytest.mark.parametrize("scene", ["bounded", "unbounded"])
@pytest.mark.parametrize("norm", ALL_NORMS)
def test_outputs_have_the_names_that_nerfstudio_reads(norm: str, scene: str) -> None:
    """`rgb`, `depth` and `accumulation` by name for viewer, ns-render and exports; `normals` for exports."""
    model = tiny_model(norm=norm, scene=scene)
    sizes = {"rgb": 3, "depth": 1, "accumulation": 1}
    trained = model.train()(rays(20))
    assert {name: trained[name].shape for name in sizes} == {name: (20, n) for name, n in sizes.items()}
    assert trained.keys() - sizes.keys() == {"rgb_coarse", "accumulation_coarse"}
    evaluated = model.eval()(rays(20))
    assert {name: value.shape for name, value in evaluated.items()} == {
        name: (20, n) for name, n in (sizes | {"normals": 3}).items()
    }
    for name in ("rgb", "accumulation", "normals"):
        assert (evaluated[name] >= 0).all()
        assert (evaluated[name] <= 1 + 1e-5).all()
    assert (evaluated["depth"] > 0).all()


def test_normals_lie_between_0_and_1_as_exports_assert() -> None:
    """The bounds are exact, because nerfstudio's point cloud refuses 1.0000001."""
    normals = tiny_model().eval()(rays(2000))["normals"]
    assert normals.min() >= 0
    assert normals.max() <= 1
    torch.testing.assert_close((2 * normals - 1).norm(dim=-1), torch.ones(2000))


def test_images_come_without_normals_unless_asked_for() -> None:
    image = rays(12).reshape((3, 4))
    model = tiny_model().eval()
    assert model.get_outputs_for_camera_ray_bundle(image).keys() == {"rgb", "depth", "accumulation"}
    assert "normals" in model(rays(12))  # exports call the model itself
    model.config.render_normals = True
    assert model.get_outputs_for_camera_ray_bundle(image)["normals"].shape == (3, 4, 3)


def test_an_interrupted_render_forgets_that_normals_were_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The viewer interrupts a render by an exception, which must not leave the setting behind."""
    model = tiny_model().eval()

    def interrupt(_: RayBundle) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(model, "get_outputs", interrupt)
        with pytest.raises(KeyboardInterrupt):
            model.get_outputs_for_camera_ray_bundle(rays(12).reshape((3, 4)))
    assert "normals" in model(rays(12))


def test_the_background_suits_the_scene_unless_chosen() -> None:
    """It is white behind objects, as in Blender data, and the last sample's colour behind a capture."""
    for scene, expected in (("bounded", "white"), ("unbounded", "last_sample")):
        assert tiny_model(scene=scene).renderer_rgb.background_color == expected
        assert tiny_model(scene=scene, background_color="black").renderer_rgb.background_color == "black"


@pytest.mark.parametrize(("background", "value"), [("white", 1.0), ("black", 0.0)])
def test_rays_that_miss_the_box_show_the_background(background: str, value: float) -> None:
    model = tiny_model(background_color=background).eval()
    outputs = model(rays(10, toward=-1))
    assert (outputs["accumulation"] == 0).all()
    assert (outputs["rgb"] == value).all()


def test_evaluation_does_not_depend_on_chance() -> None:
    model = tiny_model().eval()
    assert same_tensors(model(rays(30)), model(rays(30)))


def test_the_fine_field_sees_the_coarse_samples_if_asked_to() -> None:
    for reuse, expected in ((False, 8), (True, 8 + 8 + 1)):
        model = tiny_model(reuse_coarse_samples=reuse).eval()
        seen = inputs_of(model.field_fine)
        model(rays(4))
        assert seen[0].shape == (4, expected)


def test_a_call_of_32768_rays_goes_through_the_field_in_chunks() -> None:
    """ns-export makes such calls, for which each layer would need hundreds of megabytes."""
    model = tiny_model(eval_num_rays_per_chunk=5000).eval()
    seen = inputs_of(model.field_fine)
    with torch.no_grad():
        outputs = model(rays(32_768))
    assert [len(samples) for samples in seen] == [5000] * 6 + [2768]
    assert all(len(value) == 32_768 for value in outputs.values())
    model.config.eval_num_rays_per_chunk = 32_768
    with torch.no_grad():
        torch.testing.assert_close(outputs, model(rays(32_768)))


def test_training_batches_are_never_split() -> None:
    """Each chunk would be normalised with its own statistics, and not with those of the batch."""
    model = tiny_model(eval_num_rays_per_chunk=10).train()
    seen = inputs_of(model.field_fine)
    model(rays(50))
    assert [len(samples) for samples in seen] == [50]


# ---------------------------------------------------------------------------------------------- statistics


@pytest.mark.parametrize("norm", RUNNING)
def test_coarse_and_fine_fields_have_statistics_of_their_own(norm: str) -> None:
    """Oracle: each field moves its first norm's statistics towards the moments of its own inputs."""
    model = tiny_model(norm=norm).train()
    fields = (model.field_coarse, model.field_fine)
    modules = [set(running_norms(field)) for field in fields]
    assert modules[0]
    assert not modules[0] & modules[1]
    seen = [inputs_of(field.trunk) for field in fields]
    before = [field.trunk.layers[0].norm.running_mean.clone() for field in fields]
    model(rays(40))
    moved = []
    for field, (points,), old in zip(fields, seen, before, strict=True):
        layer = field.trunk.layers[0]
        products = layer.linear(field.trunk.encoding(points))
        mean = products.mean() if norm == "global" else products.mean(dim=0)
        torch.testing.assert_close(layer.norm.running_mean, 0.9 * old + 0.1 * mean)
        moved.append(points)
    assert not torch.equal(*(points.mean(dim=0) for points in moved))


@pytest.mark.parametrize("norm", RUNNING)
def test_only_training_passes_change_statistics(norm: str) -> None:
    model = tiny_model(norm=norm)
    before = statistics(model)
    model.eval()(rays(30))
    model.get_outputs_for_camera_ray_bundle(rays(12).reshape((3, 4)))
    with torch.no_grad():
        model.train()(rays(30))
    assert same_tensors(statistics(model), before)
    model.train()(rays(30))
    after = statistics(model)
    assert all(not torch.equal(after[name], value) for name, value in before.items() if "count" not in name)


@pytest.mark.parametrize("training", [True, False])
def test_rays_are_sampled_between_the_faces_of_the_box(training: bool) -> None:
    """This holds in evaluation too, where nerfstudio's own planes begin at the camera."""
    model = tiny_model().train(training)
    bundle = rays(40)
    model(bundle)
    for distances in (bundle.nears, bundle.fars):
        ends = bundle.origins + bundle.directions * distances
        torch.testing.assert_close(ends.abs().amax(dim=-1), torch.full((40,), 1.5))


@pytest.mark.parametrize("training", [True, False])
def test_unbounded_rays_go_from_the_camera_to_far_away(training: bool) -> None:
    model = tiny_model(scene="unbounded").train(training)
    bundle = rays(4)
    model(bundle)
    assert (bundle.nears == UNBOUNDED_NEAR).all()
    assert (bundle.fars == UNBOUNDED_FAR).all()


def test_no_sample_outside_the_box_reaches_a_network() -> None:
    """Rays that miss the box have samples without extent, which must not reach the norms."""
    model = tiny_model(reuse_coarse_samples=False).train()
    seen = [inputs_of(m) for m in model.modules() if isinstance(m, CoordinateMLP)]
    hits, misses = rays(20), rays(20, toward=-1)
    both = RayBundle(
        *(torch.cat([getattr(hits, n), getattr(misses, n)]) for n in ("origins", "directions", "pixel_area")),
        camera_indices=torch.cat([hits.camera_indices, misses.camera_indices]),
    )
    model(both)
    for (points,) in seen:
        assert 20 * 8 * 0.9 <= len(points) <= 20 * 8
    for (points,) in seen[::2]:  # every other one is a trunk, the rest are heads
        assert points.abs().max() <= 1


@pytest.mark.parametrize("norm", ALL_NORMS)
def test_a_step_on_rays_that_all_miss_changes_nothing(norm: str) -> None:
    model = tiny_model(norm=norm).train()
    parameters = [p for group in model.get_param_groups().values() for p in group]
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss = training_loss(model, rays(10, toward=-1))
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    assert same_tensors(model.state_dict(), before)


def test_two_micro_batches_count_as_two_batches() -> None:
    """In gradient accumulation, each micro-batch has its own statistics and moves the running ones."""
    model = tiny_model().train()
    before = statistics(model)
    for seed in (1, 2):
        training_loss(model, rays(30, seed)).backward()
    counts = {n: v - before[n] for n, v in statistics(model).items() if n.endswith("num_batches_tracked")}
    assert counts
    assert all(count == 2 for count in counts.values())


@pytest.mark.parametrize("norm", RUNNING)
def test_a_batch_of_one_sample_is_the_users_mistake(norm: str) -> None:
    model = tiny_model(norm=norm, num_coarse_samples=1).train()
    with pytest.raises(
        UserError, match=r"raise the number of rays, samples .* or use norm 'none' or 'layer'"
    ):
        model(rays(1))


def test_an_unknown_norm_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="norm is 'wavelet': choose one of none, batch"):
        tiny_model(norm="wavelet")


@pytest.mark.parametrize("norm", ALL_NORMS)
def test_training_in_bfloat16_keeps_statistics_in_single_precision(norm: str) -> None:
    model = tiny_model(norm=norm)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = training_loss(model, rays(40))
    loss.backward()
    assert loss.isfinite()
    kinds = {value.dtype for name, value in statistics(model).items() if "running_count" not in name}
    assert kinds <= {torch.float32, torch.long}
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    precise = tiny_model(norm=norm)
    torch.manual_seed(1)
    torch.testing.assert_close(loss, training_loss(precise, rays(40)), rtol=0.05, atol=0.01)
    for name, value in statistics(precise).items():
        torch.testing.assert_close(statistics(model)[name], value, rtol=0.05, atol=0.05)


# ------------------------------------------------------------------------------------- losses and metrics


@pytest.mark.parametrize("background", ["white", "black"])
def test_an_image_over_its_background_has_no_loss(background: str) -> None:
    model = tiny_model(background_color=background)
    rgba = batch_of(30)["image"]
    blended = rgba[:, :3] * rgba[:, 3:] + (background == "white") * (1 - rgba[:, 3:])
    outputs = {"rgb": blended, "accumulation": rgba[:, 3:]}
    coarse = {f"{name}_coarse": value for name, value in outputs.items()}
    losses = model.get_loss_dict(outputs | coarse, {"image": rgba})
    assert losses.keys() == {"rgb_loss_fine", "rgb_loss_coarse"}
    assert all(loss < 1e-12 for loss in losses.values())
    assert model.get_loss_dict(outputs, {"image": rgba}).keys() == {"rgb_loss_fine"}


def test_losses_are_mean_squares_times_their_coefficients() -> None:
    model = tiny_model(loss_coefficients={"rgb_loss_fine": 1.0, "rgb_loss_coarse": 0.25})
    outputs = model.train()(rays(30))
    image = batch_of(30, channels=3)["image"]
    losses = model.get_loss_dict(outputs, {"image": image})
    torch.testing.assert_close(losses["rgb_loss_fine"], (outputs["rgb"] - image).square().mean())
    torch.testing.assert_close(
        losses["rgb_loss_coarse"], 0.25 * (outputs["rgb_coarse"] - image).square().mean()
    )
    psnr = model.get_metrics_dict(outputs, {"image": image})["psnr"]
    torch.testing.assert_close(psnr, -10 * losses["rgb_loss_fine"].log10())


def test_both_fields_learn() -> None:
    model = tiny_model().train()
    training_loss(model, rays(40)).backward()
    for name, parameter in model.named_parameters():
        if name != "device_indicator_param":
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("norm", ALL_NORMS)
def test_each_parameter_is_in_one_group_and_muon_gets_hidden_matrices_only(norm: str) -> None:
    model = tiny_model(norm=norm)
    groups = model.get_param_groups()
    assert groups.keys() == {"hidden_matrices", "fields"}
    grouped = [id(p) for group in groups.values() for p in group]
    expected = [id(p) for n, p in model.named_parameters() if n != "device_indicator_param"]
    assert sorted(grouped) == sorted(expected)
    assert [tuple(p.shape) for p in groups["hidden_matrices"]] == [(16, 16), (16, 16)]


# ------------------------------------------------------------------------------------------------ pictures


@pytest.mark.parametrize("background", ["white", "black"])
def test_the_opaque_part_over_the_background_is_the_picture(background: str) -> None:
    model = tiny_model(background_color=background).eval()
    outputs = model(rays(50))
    rgba = model.get_rgba_image(outputs)
    alpha = rgba[:, 3:]
    torch.testing.assert_close(alpha, outputs["accumulation"])
    assert (alpha < 0.9).any()
    torch.testing.assert_close(
        rgba[:, :3] * alpha + (background == "white") * (1 - alpha), outputs["rgb"], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("background", ["white", "black", "random", "last_sample"])
def test_background_is_transparent_so_that_exports_leave_it_out(background: str) -> None:
    """nerfstudio's own function calls every pixel opaque where the background is a fixed colour."""
    model = tiny_model(background_color=background).eval()
    rgba = model.get_rgba_image(model(rays(10, toward=-1)))
    assert (rgba[:, 3] == 0).all()
    assert ((rgba >= 0) & (rgba <= 1)).all()


def test_pictures_show_truth_and_rendering_side_by_side() -> None:
    model = tiny_model().eval()
    outputs = model.get_outputs_for_camera_ray_bundle(rays(13 * 12).reshape((12, 13)))
    image = torch.rand(12, 13, 4)
    metrics, pictures = model.get_image_metrics_and_images(outputs, {"image": image})
    assert metrics.keys() >= {"psnr", "ssim"}
    assert pictures["img"].shape == (12, 26, 3)
    on_white = image[..., :3] * image[..., 3:] + 1 - image[..., 3:]
    torch.testing.assert_close(pictures["img"][:, :13], on_white)
    torch.testing.assert_close(pictures["img"][:, 13:], outputs["rgb"])
    assert pictures["depth"].shape == pictures["accumulation"].shape == (12, 13, 3)


@pytest.mark.parametrize("norm", ALL_NORMS)
def test_no_weights_of_lpips_are_in_the_state(
    norm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nerfstudio's methods save 2.5 million of them, and have to download them first."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)

    def refuse(*_: object, **__: object) -> Callable[..., object]:
        raise AssertionError(f"{LPIPS_WEIGHTS} would be downloaded")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    model = tiny_model(norm=norm)
    size = sum(value.numel() for value in model.state_dict().values())
    assert not [name for name in model.state_dict() if "lpips" in name]
    assert size < 5000
