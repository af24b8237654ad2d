"""A twin of a model shares the trained parameters and nothing else."""

from __future__ import annotations

from pathlib import Path

import torch

from bn_field_plugin.nn import running_norms
from bn_field_plugin.nn.norms import StatisticsMode
from bn_field_plugin.viewer.twin import twin
from tests.models.test_bn_nerfacto import loss
from tests.models.test_bn_nerfacto import model as nerfacto
from tests.scenes import rays, tiny_model
from tests.viewer.cases import same_state, state_of, trained_pipeline


def test_a_twin_renders_the_same_and_follows_the_weights() -> None:
    model = tiny_model().eval()
    other = twin(model)
    bundle = rays(10)
    assert torch.equal(other(bundle)["rgb"], model(bundle)["rgb"])
    assert [id(p) for p in other.parameters()] == [id(p) for p in model.parameters()]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.9)
    assert torch.equal(other(bundle)["rgb"], model(bundle)["rgb"])


def test_whatever_is_done_to_a_twin_the_model_stays(capture: Path) -> None:
    """Modes, statistics and flags of the model stay, even if work on the twin is interrupted."""
    model = trained_pipeline(capture).model.train()
    before = state_of(model)
    other = twin(model).eval()
    for norm in running_norms(other):
        norm.mode = StatisticsMode.BATCH
        norm.running_mean += 1
        norm.running_var *= 2
        norm.num_batches_tracked += 1
    other.sampler_fine.num_samples = 1
    assert same_state(state_of(model), before)
    assert model.sampler_fine.num_samples == 8
    assert {norm.synchronize for norm in running_norms(model)} == {True}
    assert {norm.synchronize for norm in running_norms(other)} == {False}


def test_nerfactos_twin_asks_its_own_proposal_networks() -> None:
    """A training pass leaves tensors that have a graph, and a sampler holds bound methods of networks."""
    model = nerfacto(proposal_norm="batch", predict_normals=True).train()
    loss(model).backward()
    other = twin(model)
    own = {id(m) for m in other.modules()}
    assert all(id(function.__self__) in own for function in other.density_fns)
    assert not own & {id(m) for m in model.modules()}
    assert other.field.mlp_base.encoding.tables is model.field.mlp_base.encoding.tables
