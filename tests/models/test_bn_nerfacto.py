"""nerfacto with BN-MLPs: outputs, bounds of the scene, statistics that only training moves, no downloads."""

import pytest
import torch
from nerfstudio.data.scene_box import SceneBox

from bn_field_plugin.fields import fused, tcnn
from bn_field_plugin.fields.hash_field import BNDensityField
from bn_field_plugin.models.bn_nerfacto import BNNerfactoModel, BNNerfactoModelConfig, resolved
from bn_field_plugin.models.colliders import BoxCollider
from bn_field_plugin.nn import CoordinateMLP, HashGridEncoding, NormName, calibrate, running_norms
from tests.fields import fake_tinycudann
from tests.scenes import BOX, rays, same_tensors, statistics

NETS = [{"hidden_dim": 8, "log2_hashmap_size": 8, "num_levels": 2, "max_res": 16, "use_linear": False}]


def model(**options: object) -> BNNerfactoModel:
    settings = {
        "hidden_dim": 16,
        "hidden_dim_color": 16,
        "num_levels": 3,
        "max_res": 16,
        "base_res": 4,
        "log2_hashmap_size": 8,
        "num_proposal_samples_per_ray": (12, 8),
        "num_nerf_samples_per_ray": 6,
        "proposal_net_args_list": NETS,
        "implementation": "torch",
        "scene": "bounded",
    }
    torch.manual_seed(0)
    config = BNNerfactoModelConfig(**{**settings, **options})
    return config.setup(scene_box=SceneBox(BOX), num_train_data=3)


def loss(made: BNNerfactoModel) -> torch.Tensor:
    batch = {"image": torch.rand(20, 4, generator=torch.Generator().manual_seed(1))}
    outputs = made(rays(20))
    losses = made.get_loss_dict(outputs, batch, made.get_metrics_dict(outputs, batch))
    return torch.stack(list(losses.values())).sum()


@pytest.mark.parametrize("scene", ["bounded", "unbounded"])
@pytest.mark.parametrize("norm", ["none", "batch", "layer", "global", "cross"])
def test_it_trains_and_renders(norm: NormName, scene: str) -> None:
    made = model(norm=norm, scene=scene, predict_normals=True).train()
    loss(made).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in made.parameters())
    assert made.field.mlp_base.encoding.tables.grad.abs().sum() > 0
    outputs = made.eval()(rays(20))
    for name, size in (("rgb", 3), ("depth", 1), ("accumulation", 1), ("normals", 3)):
        assert outputs[name].shape == (20, size)
        assert outputs[name].isfinite().all()
    assert made.get_rgba_image(outputs).shape == (20, 4)


def test_a_bounded_scene_is_the_box_and_nothing_else() -> None:
    made = model()
    assert isinstance(made.collider, BoxCollider)
    assert made.field.spatial_distortion is None
    assert made.field.embedding_appearance is None
    assert made.camera_optimizer.config.mode == "off"
    torch.testing.assert_close(made.eval()(rays(10, toward=-1))["rgb"], torch.ones(10, 3))


def test_captures_keep_nerfactos_settings() -> None:
    config = BNNerfactoModelConfig(scene="unbounded")
    same = resolved(config)
    assert same.background_color == "last_sample"
    assert same.camera_optimizer == config.camera_optimizer
    made = model(scene="unbounded")
    assert made.field.embedding_appearance is not None
    assert made.camera_optimizer.config.mode == "SO3xR3"


def test_nothing_is_fetched_and_no_lpips_enters_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("tried to fetch weights")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    assert not [name for name in model().state_dict() if "lpips" in name]


def test_only_training_with_gradients_moves_the_statistics() -> None:
    made = model(proposal_norm="batch")
    assert all(isinstance(net, BNDensityField) for net in made.proposal_networks)
    before = statistics(made)
    assert before
    with torch.no_grad():
        made.train()(rays(20))
    made.eval()(rays(20))
    assert same_tensors(statistics(made), before)
    loss(made.train()).backward()
    after = statistics(made)
    assert all(not torch.equal(after[name], before[name]) for name in before if name.endswith("running_mean"))


def test_statistics_can_be_made_exact() -> None:
    made = model(proposal_norm="batch").train()
    batches = [rays(16, seed=seed) for seed in range(3)]

    def render(bundle: object) -> None:
        torch.manual_seed(3)
        made(bundle)

    assert calibrate(made, batches, render) == len(running_norms(made))


def test_one_proposal_network_can_serve_all() -> None:
    made = model(use_same_proposal_network=True, proposal_norm="batch")
    assert len(made.proposal_networks) == 1
    assert len(made.density_fns) == 2
    loss(made.train()).backward()


def test_encodings_are_torchs_where_tinycudann_does_not_work() -> None:
    """The library is absent here; `tests/fields/test_tcnn.py` has the other cases."""
    if torch.cuda.is_available():
        pytest.skip("needs a machine without tiny-cuda-nn")
    made = model(implementation="tcnn")
    assert made.config.implementation == "torch"
    assert isinstance(made.field.mlp_base.encoding, HashGridEncoding)


def test_the_fused_kernel_renders_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes all networks: some at their own width, others at the next larger one."""
    monkeypatch.setattr(tcnn, "DEVICE_TYPE", "cpu")
    monkeypatch.setattr(fused, "load_tinycudann", lambda: fake_tinycudann)
    options = {"norm": "batch", "proposal_norm": "batch"}
    expected = model(fused_inference="never", **options).eval()(rays(40))
    made = model(fused_inference="auto", **options).eval()
    with torch.no_grad():
        outputs = made(rays(40))
    mlps = [module for module in made.modules() if isinstance(module, CoordinateMLP)]
    assert [mlp.inference._network is not None for mlp in mlps] == [True] * 4
    assert not torch.equal(outputs["rgb"], expected["rgb"])
    torch.testing.assert_close(outputs["rgb"], expected["rgb"], rtol=0, atol=2 / 255)
