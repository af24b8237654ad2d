"""Networks on other devices give what they give on a CPU, in tensors on the right device."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from bn_field_plugin.nn import (
    CoordinateMLP,
    CoordinateMLPConfig,
    HashGridEncodingConfig,
    calibrate,
    fold_norm,
    value_and_gradient,
)
from bn_field_plugin.nn.batch_linear import batch_norm_linear
from bn_field_plugin.nn.muon import Muon
from bn_field_plugin.nn.precision import is_autocast, without_autocast
from tests.devices import DEVICES, assert_alike
from tests.nn.cases import ENCODINGS, NORMED, RUNNING, combinations, coordinates, draw, network, statistics

on_each_device = pytest.mark.parametrize("device", DEVICES)


def pair(device: str, **options) -> tuple[CoordinateMLP, CoordinateMLP]:
    """A network and its twin on a device."""
    mlp = network(**options, dtype=torch.float32)
    return mlp, copy.deepcopy(mlp).to(device)


def points(n: int = 40) -> Tensor:
    return coordinates(n, 3, dtype=torch.float32)


@on_each_device
@pytest.mark.parametrize("options", combinations())
def test_a_training_pass_and_an_evaluation(options, device):
    here, there = pair(device, **options)
    x, grad = points(), draw(40, 2, dtype=torch.float32)
    expected, found = here(x), there(x.to(device))
    assert_alike(found, expected, device)
    expected.backward(grad)
    found.backward(grad.to(device))
    for a, b in zip(there.parameters(), here.parameters(), strict=True):
        assert_alike(a.grad, b.grad, device, 1e-3)
    for a, b in zip(statistics(there), statistics(here), strict=True):
        assert_alike(a, b, device)
    with torch.no_grad():
        for a, b in ((there.eval(), here.eval()), (fold_norm(there), fold_norm(here))):
            assert_alike(a(x.to(device)), b(x), device, 1e-3)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("norm", ["none", *NORMED])
def test_all_that_a_pass_makes_lies_where_the_coordinates_are(norm, encoding):
    """The device is a pretended CUDA: tensors without values, and errors where devices are mixed."""
    with FakeTensorMode(), torch.device("cuda:0"):
        mlp = CoordinateMLP(CoordinateMLPConfig(in_dim=3, norm=norm, encoding=ENCODINGS[encoding]))
        x = torch.rand(40, 3)
        assert mlp(x).device.type == "cuda"
        with torch.no_grad():
            assert mlp.eval()(x).device.type == "cuda"


@on_each_device
@pytest.mark.parametrize("route", ["auto", "plain", "moments", "native"])
def test_each_route_of_a_normalised_layer(route, device):
    if device == "meta" and route in ("moments", "native"):
        pytest.skip("the route looks at values, which meta has not")
    inputs = [draw(300, 8), draw(16, 8), draw(16), draw(16)]
    results = []
    for place in ("cpu", device):
        given = [t.to(place, torch.float32).requires_grad_() for t in inputs]
        y, moments = batch_norm_linear(*given, 1e-5, relu=True, route=route)
        y.square().sum().backward()
        results.append([y, *moments, *(t.grad for t in given)])
    for expected, found in zip(*results, strict=True):
        assert_alike(found, expected, device, 1e-3)


@on_each_device
@pytest.mark.parametrize("dim", [2, 3])
def test_the_hash_grid(dim, device):
    config = HashGridEncodingConfig(
        num_levels=4, base_resolution=4, finest_resolution=64, log2_table_size=8, init_scale=1.0
    )
    here = config.build(dim)
    there = copy.deepcopy(here).to(device)
    x = coordinates(60, dim, dtype=torch.float32)
    results = []
    for encoding, place in ((here, "cpu"), (there, device)):
        given = x.to(place).requires_grad_()
        y = encoding(given)
        # torch has no backward pass of an embedding on meta.
        wanted = [given] if device == "meta" else [given, encoding.tables]
        results.append((y, *torch.autograd.grad(y.square().sum(), wanted)))
    for expected, found in zip(*results, strict=True):
        assert_alike(found, expected, device)


@on_each_device
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_derivatives_by_the_coordinates(norm, device):
    here, there = pair(device, norm=norm)
    expected, found = value_and_gradient(here, points()), value_and_gradient(there, points().to(device))
    for a, b in zip(found, expected, strict=True):
        assert_alike(a, b, device, 1e-3)


@on_each_device
def test_a_step_of_muon(device):
    parameters = [torch.nn.Parameter(draw(16, 24, dtype=torch.float32).to(d)) for d in ("cpu", device)]
    for parameter in parameters:
        parameter.grad = draw(16, 24, seed=1, dtype=torch.float32).to(parameter.device)
        Muon([parameter], lr=0.1).step()
    assert_alike(parameters[1].detach(), parameters[0].detach(), device, 1e-3)


def test_a_device_without_autocast_has_nothing_to_switch_off():
    meta, cpu = torch.device("meta"), torch.device("cpu")
    with torch.autocast("cpu", torch.bfloat16):
        assert is_autocast(cpu)
        assert not is_autocast(meta)
        with without_autocast(meta):
            assert is_autocast(cpu)
        with without_autocast(cpu):
            assert not is_autocast(cpu)


# ---------------------------------------------------------------------------------------------------- CUDA


@pytest.mark.gpu
@pytest.mark.parametrize("norm", RUNNING)
def test_calibration_on_cuda_is_that_on_a_cpu(norm):
    here, there = pair("cuda", norm=norm)
    for mlp, x in ((here, points(200)), (there, points(200).cuda())):
        assert calibrate(mlp, x.split(70)) == 3
    for a, b in zip(statistics(there), statistics(here), strict=True):
        assert_alike(a, b, "cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("norm", NORMED)
def test_autocast_on_cuda_keeps_statistics_in_fp32(norm, dtype):
    here, there = pair("cuda", norm=norm, width=16, omega=1.0)
    expected = here(points())
    with torch.autocast("cuda", dtype):
        found = there(points().cuda())
    assert found.dtype == dtype
    error = (found.float().cpu() - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert error < 16 * torch.finfo(dtype).eps
    for a, b in zip(statistics(there), statistics(here), strict=True):
        assert_alike(a, b, "cuda", 16 * torch.finfo(dtype).eps)


@pytest.mark.gpu
def test_a_compiled_network_on_cuda_is_the_network():
    here, there = pair("cuda", norm="batch", encoding="positional")
    found = torch.compile(there, dynamic=False)(points().cuda())
    assert_alike(found.detach(), here(points()).detach(), "cuda", 1e-3)
