"""The live spectrum is that of the kernel, and looking changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from bn_field_plugin.engine.pipeline import BNPipeline
from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import CoordinateMLP, batch_statistics, frozen_statistics
from bn_field_plugin.viewer import probe
from bn_field_plugin.viewer.twin import twin
from tests.models.test_bn_nerfacto import model as nerfacto
from tests.viewer.cases import generators, same_state, state_of, trained_pipeline


@pytest.fixture(scope="module")
def pipeline(capture: Path) -> BNPipeline:
    return trained_pipeline(capture)


def inputs(pipeline: BNPipeline, field: str = "field_fine") -> tuple[CoordinateMLP, torch.Tensor]:
    rays = pipeline.fixed_rays(32)
    return probe.density_inputs(pipeline, twin(pipeline.model), rays, field)


def test_the_spectrum_is_that_of_the_density_with_running_statistics(pipeline: BNPipeline) -> None:
    """Oracle: the Jacobian by autograd, row by row, through the whole network with fixed statistics."""
    mlp, points = inputs(pipeline)
    mlp = mlp.double()
    rows = []
    with frozen_statistics(mlp):
        for value in mlp(points.double())[:, 0]:
            found = torch.autograd.grad(value, list(mlp.parameters()), retain_graph=True)
            rows.append(torch.cat([gradient.flatten() for gradient in found]))
    jacobian = torch.stack(rows)
    expected = torch.linalg.eigvalsh(jacobian @ jacobian.T).flip(0).numpy()
    found = probe.density_eigenvalues(*inputs(pipeline))
    assert found.shape == (len(points),)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6 * expected[0])


@pytest.mark.parametrize(("field", "network"), [("field_coarse", "trunk"), ("field_fine", "trunk")])
def test_the_probe_points_are_what_training_feeds_the_density_network(
    pipeline: BNPipeline, field: str, network: str
) -> None:
    rays = pipeline.fixed_rays(32)
    model = twin(pipeline.model)
    mlp, points = probe.density_inputs(pipeline, model, rays, field)
    assert mlp is model.get_submodule(f"{field}.{network}")
    fed: list[torch.Tensor] = []
    mlp.register_forward_pre_hook(lambda _, arguments: fed.append(arguments[0]))
    with torch.no_grad():
        pipeline.pass_as_in_training(model, rays)
    equal = points[:, None] == fed[0].reshape(1, -1, 3)
    assert equal.all(dim=-1).any(dim=1).all()
    assert len(points) == probe.PROBE_POINTS
    assert len(torch.unique(points, dim=0)) == len(points)


def test_a_look_leaves_the_pipeline_as_it_was(pipeline: BNPipeline) -> None:
    pipeline.train()
    rays = pipeline.fixed_rays(32)
    before, numbers = state_of(pipeline), generators()
    first = probe.look(pipeline, rays, "field_fine")
    assert same_state(state_of(pipeline), before)
    assert generators() == numbers
    again = probe.look(pipeline, rays, "field_fine")
    assert first.drift == again.drift
    assert (first.eigenvalues == again.eigenvalues).all()


def test_drift_compares_with_the_batch_statistics_of_the_same_rays(pipeline: BNPipeline) -> None:
    """Batch statistics over these rays are the exact ones of the first layer."""
    rays = pipeline.fixed_rays(48)
    found = probe.look(pipeline, rays, None)
    assert found.eigenvalues is None
    assert found.drift.keys() == {
        f"field_{field}.{network}.layers.{layer}.norm"
        for field in ("coarse", "fine")
        for network, layers in (("trunk", 2), ("head", 1))
        for layer in range(layers)
    }
    # The first layer's drift is the change of its outputs before scale and shift.
    model = twin(pipeline.model).train()
    layer = model.field_coarse.trunk.layers[0]
    layer.norm.weight = nn.Parameter(torch.ones_like(layer.norm.weight))
    layer.norm.bias = nn.Parameter(torch.zeros_like(layer.norm.bias))
    layer.activation = nn.Identity()  # outputs are then those of the norm
    outputs: list[torch.Tensor] = []
    layer.register_forward_hook(lambda *found: outputs.append(found[2].detach().double()))
    for statistics in (batch_statistics, frozen_statistics):
        with statistics(model):
            pipeline.pass_as_in_training(model, rays)
    expected = float((outputs[0] - outputs[1]).square().mean().sqrt())
    assert found.drift["field_coarse.trunk.layers.0.norm"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_networks_without_statistics_have_a_spectrum_and_no_drift(norm: str, capture: Path) -> None:
    pipeline = trained_pipeline(capture, norm, steps=1)
    found = probe.look(pipeline, pipeline.fixed_rays(32), "field_fine")
    assert found.drift == {}
    assert found.eigenvalues is not None
    assert found.eigenvalues.max() > 0


def test_training_that_has_diverged_has_a_reason_for_no_spectrum(capture: Path) -> None:
    pipeline = trained_pipeline(capture, steps=1)
    with torch.no_grad():
        pipeline.model.field_fine.trunk.output.bias.fill_(float("nan"))
    with pytest.warns(UserWarning, match="norms keep the statistics they had"):
        found = probe.look(pipeline, pipeline.fixed_rays(32), "field_fine")
    assert found.eigenvalues is None
    assert "not finite" in found.problem


def test_rays_that_miss_the_scene_have_a_reason_too(pipeline: BNPipeline) -> None:
    rays = pipeline.fixed_rays(32)
    rays.origins = rays.origins + 100.0
    with pytest.raises(UserError, match="distinct samples"):
        probe.density_inputs(pipeline, twin(pipeline.model), rays, "field_fine")


def test_fields_with_networks_are_found_by_name(pipeline: BNPipeline) -> None:
    assert {name: len(mlps) for name, mlps in probe.networks(pipeline.model).items()} == {
        "field_coarse": 2,
        "field_fine": 2,
    }
    proposals = {"proposal_networks.0", "proposal_networks.1"}
    assert probe.networks(nerfacto()).keys() == {"field"} | proposals
    assert probe.networks(nn.Linear(2, 2)) == {}


def test_the_first_output_alone(pipeline: BNPipeline) -> None:
    mlp = pipeline.model.field_fine.trunk.eval()
    numbers = generators()
    one = probe.first_output(mlp)
    assert generators() == numbers
    points = torch.rand(7, 3)
    with torch.no_grad():
        assert torch.allclose(one(points), mlp(points)[:, :1], atol=1e-6)
    assert mlp.config.out_dim > one.config.out_dim == 1
