"""Optimizer configs, made into optimizers as nerfstudio does it."""

import pytest
import torch
from nerfstudio.engine.optimizers import Optimizers

from bn_field_plugin.engine.optimizers import AdamConfig, MuonOptimizerConfig
from bn_field_plugin.errors import UserError
from bn_field_plugin.nn.muon import Muon


def parameters() -> dict[str, list[torch.nn.Parameter]]:
    torch.manual_seed(0)
    return {
        "matrices": [torch.nn.Parameter(torch.randn(4, 4)) for _ in range(2)],
        "others": [torch.nn.Parameter(torch.randn(4))],
    }


def test_nerfstudio_makes_both_with_all_their_options() -> None:
    muon = MuonOptimizerConfig(lr=0.3, momentum=0.8, nesterov=False, weight_decay=0.2, ns_steps=3, eps=1e-6)
    adam = AdamConfig(lr=0.4, betas=(0.5, 0.6), eps=1e-9, weight_decay=0.1)
    groups = {
        "matrices": {"optimizer": muon, "scheduler": None},
        "others": {"optimizer": adam, "scheduler": None},
    }
    made = Optimizers(groups, parameters()).optimizers
    assert isinstance(made["matrices"], Muon)
    assert made["matrices"].defaults == {
        "lr": 0.3,
        "momentum": 0.8,
        "nesterov": False,
        "weight_decay": 0.2,
        "ns_steps": 3,
        "eps": 1e-6,
        "adjust_lr_fn": "match_rms_adamw",
        "precision": "auto",
    }
    options = made["others"].defaults
    assert type(made["others"]) is torch.optim.Adam
    assert (options["lr"], options["betas"], options["eps"], options["weight_decay"]) == (
        0.4,
        (0.5, 0.6),
        1e-9,
        0.1,
    )


def test_hidden_matrices_train_with_adam_as_all_else_does_where_asked() -> None:
    weights = [parameters()["matrices"][0] for _ in range(2)]
    configs = [MuonOptimizerConfig(lr=0.3, algorithm="adam"), AdamConfig(lr=0.3)]
    for weight, config in zip(weights, configs, strict=True):
        optimizer = config.setup(params=[weight])
        for _ in range(3):
            optimizer.zero_grad()
            weight.square().sum().backward()
            optimizer.step()
    assert torch.equal(*weights)


@pytest.mark.parametrize(
    "config", [MuonOptimizerConfig(lr=0.1), MuonOptimizerConfig(lr=0.1, algorithm="adam"), AdamConfig(lr=0.1)]
)
def test_gradients_are_clipped_by_nerfstudio(config) -> None:
    """nerfstudio gets `max_norm`. The optimizer must not, since torch's has no such option."""
    config.max_norm = 1e-3
    groups = parameters()
    optimizers = Optimizers(
        {"matrices": {"optimizer": config, "scheduler": None}}, {"matrices": groups["matrices"]}
    )
    for parameter in groups["matrices"]:
        parameter.grad = torch.ones_like(parameter)
    optimizers.optimizer_step_all()
    norms = torch.stack([parameter.grad.norm() for parameter in groups["matrices"]])
    assert norms.norm() == pytest.approx(1e-3, rel=1e-3)


def test_muon_refuses_a_bias() -> None:
    with pytest.raises(UserError, match="matrices only"):
        MuonOptimizerConfig().setup(params=parameters()["others"])
