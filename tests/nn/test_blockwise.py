"""Training passes block by block equal those layer by layer, which equal torch's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm

from bn_field_plugin.nn import (
    CoordinateMLP,
    CoordinateMLPConfig,
    GaussianEncodingConfig,
    PositionalEncodingConfig,
    blockwise,
    frozen_statistics,
)
from bn_field_plugin.nn import mlp as mlp_module
from bn_field_plugin.nn.blas import blas
from tests.laws import cases
from tests.nn.cases import draw

BLOCK = 16


@pytest.fixture(autouse=True)
def few_samples_in_a_block(monkeypatch):
    """Make blocks so small that a few samples fill several."""
    monkeypatch.setattr(blockwise, "BLOCK_BYTES", 1)
    monkeypatch.setattr(blockwise, "FEWEST_IN_BLOCK", BLOCK)
    monkeypatch.setattr(blockwise, "FEWEST_SAMPLES", 2 * BLOCK)


@pytest.fixture
def passes(monkeypatch) -> list[int]:
    """Numbers of samples in each pass that goes block by block."""
    seen: list[int] = []
    network = blockwise.network

    def counted(x: Tensor, *rest: object) -> object:
        seen.append(x.shape[0])
        return network(x, *rest)

    monkeypatch.setattr(blockwise, "network", counted)
    return seen


def mlp(
    depth: int = 2, width: int = 8, in_dim: int = 3, out_dim: int = 2, **options: object
) -> CoordinateMLP:
    """A network whose norms have scales, negative ones too, and shifts of their own."""
    torch.manual_seed(depth)
    made = CoordinateMLP(
        CoordinateMLPConfig(in_dim=in_dim, out_dim=out_dim, width=width, depth=depth, **options)
    )
    for index, layer in enumerate(made.hidden_layers):
        if layer.norm is not None:
            nn.init.uniform_(layer.norm.weight, -1.5, 1.5)
            layer.norm.bias.data = draw(width, seed=index).float() / 2
    return made


def results(made: CoordinateMLP, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
    """Outputs, gradients of all, and statistics after one pass."""
    x = x.clone().requires_grad_()
    y = made(x)
    y.backward(grad)
    found = {"y": y.detach(), "x": x.grad}
    found |= {name: p.grad for name, p in made.named_parameters()}
    return found | {name: b.clone() for name, b in made.named_buffers()}


def layer_by_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blockwise, "serves", lambda *_: False)


@cases(25)
@given(
    n=st.integers(2 * BLOCK, 5 * BLOCK),
    depth=st.integers(1, 4),
    width=st.integers(1, 9),
    in_dim=st.integers(1, 5),
    out_dim=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_equal_to_the_layers(n, depth, width, in_dim, out_dim, seed):
    x, grad = draw(n, in_dim, seed=seed).float() + 1, draw(n, out_dim, seed=seed + 1).float()
    own, other = (mlp(depth, width, in_dim, out_dim) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        layer_by_layer(patch)
        expected = results(other.double(), x.double(), grad.double())
    found = results(own, x, grad)
    for name, value in expected.items():
        size = max(1.0, float(value.abs().max()) if value.is_floating_point() else 1.0)
        torch.testing.assert_close(
            found[name].double(), value.double(), rtol=2e-3, atol=2e-4 * size, msg=name
        )


def test_it_is_what_serves_training(passes):
    x = draw(3 * BLOCK, 3).float()
    mlp()(x)
    assert passes == [3 * BLOCK]
    with torch.no_grad():
        mlp()(x)
    mlp().eval()(x)
    mlp()(x[: 2 * BLOCK - 1])
    mlp().double()(x.double())
    mlp(norm="none")(x)
    mlp(norm="layer")(x)
    mlp(placement="after")(x)
    mlp(activation="sine")(x)
    mlp(depth=3, skips=(1,))(x)
    with frozen_statistics(made := mlp()):
        made(x)
    with torch.autocast("cpu"):
        mlp()(x)
    assert passes == [3 * BLOCK]


@pytest.mark.parametrize("encoding", [PositionalEncodingConfig(2), GaussianEncodingConfig(3)])
def test_coordinates_are_encoded_in_parts(encoding, passes, monkeypatch):
    monkeypatch.setattr(mlp_module, "ENCODED_AT_A_TIME", BLOCK - 3)
    made, x = mlp(encoding=encoding), draw(3 * BLOCK, 3)
    found = made(x)
    assert passes == [3 * BLOCK]
    torch.testing.assert_close(found, made(x.clone().requires_grad_()), rtol=1e-5, atol=1e-5)


def test_networks_that_others_reach_into_go_layer_by_layer(passes):
    x, seen = draw(3 * BLOCK, 3).float(), []
    hooked = mlp()
    hooked.hidden_layers[1].linear.register_forward_hook(lambda *_: seen.append(1))
    pruned, normed = mlp(), mlp()
    prune.l1_unstructured(pruned.hidden_layers[0].linear, "weight", 0.5)
    weight_norm(normed.hidden_layers[0].linear)
    for made in (hooked, pruned, normed):
        for _ in range(2):
            made(x).sum().backward()
        with torch.no_grad():
            made.eval()(x)
    assert not passes
    assert len(seen) == 3


def test_gradients_that_are_differentiated_again(monkeypatch):
    x = draw(2 * BLOCK + 3, 3).float()

    def second() -> list[Tensor]:
        made, leaf = mlp(), x.clone().requires_grad_()
        wanted = [leaf, *made.parameters()]
        first = torch.autograd.grad(made(leaf).square().sum(), wanted, create_graph=True)
        return list(torch.autograd.grad(sum(part.square().sum() for part in first), wanted))

    found = second()
    layer_by_layer(monkeypatch)
    for a, b in zip(found, second(), strict=True):
        torch.testing.assert_close(a, b, rtol=5e-3, atol=1e-3 * float(b.abs().max()))


def test_parameters_that_are_not_trained_get_no_gradient():
    made = mlp()
    made.hidden_layers[0].linear.weight.requires_grad_(False)
    made(draw(3 * BLOCK, 3).float()).sum().backward()
    assert made.hidden_layers[0].linear.weight.grad is None
    assert made.output.weight.grad is not None


def test_the_same_bits_for_any_number_of_threads():
    x, grad = draw(7 * BLOCK + 5, 3).float(), draw(7 * BLOCK + 5, 2).float()
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(results(mlp(), x, grad))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(other[name], value) for name, value in found[0].items())


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_products_that_are_made_again_are_the_same_bits(depth, monkeypatch):
    x, grad = draw(3 * BLOCK + 5, 3).float(), draw(3 * BLOCK + 5, 2).float()
    expected = results(mlp(depth), x, grad)
    monkeypatch.setattr(blockwise, "KEPT_BYTES", 0)
    for name, value in results(mlp(depth), x, grad).items():
        assert torch.equal(value, expected[name]), name


def test_of_large_products_every_second_one_is_kept_for_any_number_of_backward_passes(monkeypatch):
    monkeypatch.setattr(blockwise, "KEPT_BYTES", 4 * 3 * BLOCK * 4 * 8 - 1)
    x = draw(3 * BLOCK, 3).float()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        made = mlp(depth=4)
        loss = made(x).square().sum()
    assert kept.count((3 * BLOCK, 8)) == 2
    first = torch.autograd.grad(loss, list(made.parameters()), retain_graph=True)
    second = torch.autograd.grad(loss, list(made.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_threads_of_products_are_what_they_were_before():
    library = blas()
    if library is None:
        pytest.skip("this torch has no MKL")
    library.set_threads(3)
    try:
        mlp()(draw(3 * BLOCK, 3).float()).sum().backward()
        assert library.set_threads(0) == 3
    finally:
        library.set_threads(0)


def test_a_batch_that_is_not_finite_leaves_the_statistics():
    made, x = mlp(), draw(3 * BLOCK, 3).float()
    x[5, 1] = torch.nan
    y = made(x)
    assert y.isnan().any()
    assert all(buffer.isfinite().all() for buffer in made.buffers())
