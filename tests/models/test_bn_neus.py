"""NeuS on BN-MLPs: outputs, losses, bounds of the scene, statistics that only training moves."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.exporter.marching_cubes import create_point_pyramid, evaluate_multiresolution_sdf

from bn_field_plugin.fields.radiance_field import RadianceFieldConfig
from bn_field_plugin.fields.sdf_field import BNSDFFieldConfig
from bn_field_plugin.models.bn_neus import BNNeuSModel, BNNeuSModelConfig
from bn_field_plugin.nn import NormName, calibrate, running_norms
from tests.nn.cases import vary
from tests.scenes import BOX, rays, same_tensors, statistics


def model(start: bool = False, **options: object) -> BNNeuSModel:
    """A small model; with `start`, at the weights with which training begins."""
    settings = {
        "sdf_field": BNSDFFieldConfig(width=16, depth=2, geo_feat_dim=4, head_width=16, head_depth=1),
        "background_field": RadianceFieldConfig(
            depth=2, width=16, skips=(), num_features=4, head_width=16, position_frequencies=3
        ),
        "num_samples": 8,
        "num_samples_importance": 8,
        "num_samples_outside": 4,
        "scene": "bounded",
    }
    torch.manual_seed(0)
    config = BNNeuSModelConfig(**{**settings, **options})
    made = config.setup(scene_box=SceneBox(BOX), num_train_data=1)
    if not start:
        vary(made)
        with torch.no_grad():
            made.field.trunk.output.weight[0].normal_(0, 0.05)
    return made


def loss(made: BNNeuSModel, num: int = 20) -> torch.Tensor:
    batch = {"image": torch.rand(num, 4, generator=torch.Generator().manual_seed(1))}
    outputs = made(rays(num))
    losses = made.get_loss_dict(outputs, batch, made.get_metrics_dict(outputs, batch))
    assert losses.keys() == ({"rgb_loss", "eikonal_loss"} if made.training else {"rgb_loss"})
    return torch.stack(list(losses.values())).sum()


@pytest.mark.parametrize("scene", ["bounded", "unbounded"])
@pytest.mark.parametrize("norm", ["none", "batch", "layer", "global", "cross"])
def test_it_trains_and_renders(norm: NormName, scene: str) -> None:
    made = model(norm=norm, scene=scene).train()
    loss(made).backward()
    groups = made.get_param_groups()
    assert groups.keys() == {"hidden_matrices", "variance", "fields"}
    trained = [p for group in groups.values() for p in group]
    assert len({id(p) for p in trained}) == len(trained)
    assert sum(p.numel() for p in trained) == sum(p.numel() for p in made.parameters())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    with torch.no_grad():
        outputs = made.eval()(rays(20))
    for name, size in (("rgb", 3), ("depth", 1), ("accumulation", 1), ("normals", 3)):
        assert outputs[name].shape == (20, size)
        assert outputs[name].isfinite().all()
    assert (outputs["normals"] >= 0).all()
    assert (outputs["normals"] <= 1).all()
    assert made.get_rgba_image(outputs).shape == (20, 4)
    loss(made)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_first_picture_is_a_sphere(norm: NormName) -> None:
    """Depth, normals and opacity are a sphere's, for rays that meet it and for those that miss it."""
    start = model(start=True, norm=norm, num_samples=64, num_samples_importance=64).eval()
    with torch.no_grad():
        start.field.deviation_network.variance.fill_(0.6)  # a surface 1/400 thin
        bundle = rays(200)
        outputs = start(bundle)
    along = -(bundle.origins * bundle.directions).sum(-1)
    nearest = (16 - along.square()).clamp_min(0).sqrt()
    hits = nearest < 0.6
    depth = along - (0.75**2 - nearest.square()).clamp_min(0).sqrt()
    torch.testing.assert_close(outputs["depth"][hits, 0], depth[hits], atol=0.03, rtol=0)
    outward = torch.nn.functional.normalize(bundle.origins + bundle.directions * depth[:, None], dim=-1)
    torch.testing.assert_close((2 * outputs["normals"] - 1)[hits], outward[hits], atol=0.1, rtol=0)
    assert (outputs["accumulation"][hits] > 0.98).all()
    assert (outputs["accumulation"][nearest > 0.9] < 0.02).all()


def test_rays_that_miss_are_white_in_a_bounded_scene_and_background_in_another() -> None:
    away = rays(10, toward=-1)
    with torch.no_grad():
        torch.testing.assert_close(model().eval()(away)["rgb"], torch.ones(10, 3))
        outputs = model(scene="unbounded").eval()(away)
    torch.testing.assert_close(outputs["rgb"], outputs["bg_rgb"], rtol=1e-4, atol=1e-5)
    assert not outputs["accumulation"].any()


def test_exports_get_the_surface_without_its_background() -> None:
    made = model(scene="unbounded").eval()
    rgb, behind = torch.tensor([[0.5, 0.4, 0.3]]), torch.tensor([[0.2, 0.6, 0.2]])
    opacity = torch.tensor([[0.75]])
    outputs = {"rgb": rgb * opacity + behind * (1 - opacity), "bg_rgb": behind, "accumulation": opacity}
    torch.testing.assert_close(made.get_rgba_image(outputs), torch.cat([rgb, opacity], dim=-1))


def test_chunks_change_nothing() -> None:
    made = model().eval()
    with torch.no_grad():
        whole = made(rays(20))
        made.config.eval_num_rays_per_chunk = 7
        for name, value in made(rays(20)).items():
            torch.testing.assert_close(value, whole[name], rtol=1e-4, atol=1e-5)


def test_the_rays_of_the_caller_stay_as_they_are() -> None:
    made, bundle = model(scene="unbounded").eval(), rays(20)
    with torch.no_grad():
        first, again = made(bundle), made(bundle)
    assert torch.equal(first["rgb"], again["rgb"])
    assert not bundle.metadata
    assert bundle.fars.max() < 10


def test_opacity_hardens_over_a_share_of_the_run() -> None:
    made = model(anneal_share=0.5).train()
    trainer = SimpleNamespace(config=SimpleNamespace(max_num_iterations=100))
    (callback,) = made.get_training_callbacks(SimpleNamespace(trainer=trainer))
    seen = []
    for step in (0, 25, 50, 99):
        callback.run_callback(step)
        seen.append(made.field._cos_anneal_ratio)
    assert seen == [0.0, 0.5, 1.0, 1.0]
    assert not model(anneal_share=0.0).get_training_callbacks(SimpleNamespace(trainer=trainer))


def test_nothing_is_fetched_and_no_lpips_enters_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("tried to fetch weights")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    assert not [name for name in model().state_dict() if "lpips" in name]


@pytest.mark.parametrize("scene", ["bounded", "unbounded"])
def test_only_training_with_gradients_moves_the_statistics_and_once_a_step(scene: str) -> None:
    made = model(scene=scene)
    before = statistics(made)
    with torch.no_grad():
        made.train()(rays(20))
        made.eval()(rays(20))
    made(rays(20))
    assert same_tensors(statistics(made), before)
    loss(made.train()).backward()
    after = statistics(made)
    assert all(not torch.equal(after[name], before[name]) for name in before if name.endswith("running_mean"))
    for name in before:
        if name.endswith("num_batches_tracked"):
            assert after[name] == before[name] + 1


@pytest.mark.parametrize("scene", ["bounded", "unbounded"])
def test_exact_statistics_belong_to_the_samples_that_training_took(scene: str) -> None:
    """However rays are split, calibration uses the samples that training's running statistics chose."""
    made, other = (model(scene=scene).train() for _ in range(2))
    bundle = rays(24)

    def render(one: BNNeuSModel):
        def forward(given: object) -> None:
            torch.manual_seed(3)
            one.sampler.uniform_sampler.train_stratified = one.sampler.pdf_sampler.train_stratified = False
            one.sampler_bg.train_stratified = False
            one(given)

        return forward

    with torch.no_grad():
        render(made)(bundle)  # leaves nothing behind
        samples = made._samples(made.collider(bundle))
        positions = samples.frustums.get_start_positions()
        inside = made.field.is_inside(positions)
    assert calibrate(made, [bundle], render(made)) == len(running_norms(made))
    calibrate(made.field.trunk, [made.field.scaled(positions[inside])], made.field.trunk.eval())
    expected = statistics(made.field.trunk)
    assert calibrate(other, [bundle[:9], bundle[9:]], render(other)) == len(running_norms(other))
    for name, value in statistics(other.field.trunk).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)
    loss(other)
    assert not other._kept_samples


def test_nerfstudios_marching_cubes_can_read_the_distance() -> None:
    """nerfstudio's command needs CUDA. This test does with the model what it does, on a coarser grid."""
    made = model(start=True).eval()
    assert hasattr(made.config, "sdf_field")
    axis = torch.linspace(-1, 1, 64)
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))
    with torch.no_grad():
        values = evaluate_multiresolution_sdf(
            lambda x: made.field.forward_geonetwork(x)[:, 0].contiguous(),
            create_point_pyramid(points),
            None,
            1.0,
            -1.0,
            64,
        )
    volume = (values < 0).sum() * (2 / 63) ** 3
    assert volume.item() == pytest.approx(4 / 3 * torch.pi * 0.75**3, rel=0.02)
