"""Whole models on CUDA: they train there, and render what they render on a CPU."""

import copy
from collections.abc import Callable

import pytest
import torch
from nerfstudio.models.base_model import Model

from tests.models.test_bn_nerfacto import model as tiny_nerfacto
from tests.models.test_bn_ngp import follow, tiny_ngp
from tests.scenes import rays, tiny_model

MODELS: dict[str, Callable[[], Model]] = {
    "bn-nerf": tiny_model,
    "bn-ngp": tiny_ngp,
    "bn-ngp of a capture": lambda: tiny_ngp(scene="unbounded"),
    "bn-nerfacto": tiny_nerfacto,
    "bn-nerfacto of a capture": lambda: tiny_nerfacto(scene="unbounded"),
}


@pytest.mark.gpu
@pytest.mark.parametrize("name", MODELS)
def test_pictures_are_those_of_a_cpu(name: str) -> None:
    here = MODELS[name]().eval()
    there = copy.deepcopy(here).to("cuda")
    with torch.no_grad():
        expected, found = here(rays(40)), there(rays(40).to("cuda"))
    for output in ("rgb", "accumulation"):
        assert found[output].device.type == "cuda"
        # A sample on a cell's border may fall to either side.
        close = (found[output].cpu() - expected[output]).abs() < 1e-2
        assert close.float().mean() > 0.95


@pytest.mark.gpu
@pytest.mark.parametrize("mixed_precision", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_they_train(name: str, mixed_precision: bool) -> None:
    model = MODELS[name]().to("cuda").train()
    if name == "bn-ngp":
        follow(model)  # type: ignore[arg-type]
    batch = {"image": torch.rand(20, 4, device="cuda")}
    parameters = [p for group in model.get_param_groups().values() for p in group]
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    scaler = torch.amp.GradScaler("cuda", enabled=mixed_precision)
    for _ in range(3):
        with torch.autocast("cuda", torch.float16, enabled=mixed_precision):
            outputs = model(rays(20).to("cuda"))
            metrics = model.get_metrics_dict(outputs, batch)
            loss = torch.stack(list(model.get_loss_dict(outputs, batch, metrics).values())).sum()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    assert loss.isfinite()
    assert all(value.isfinite().all() for value in model.state_dict().values())
