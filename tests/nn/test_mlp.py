"""A coordinate network equals a stack of torch's own layers, on each of its ways of evaluation."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import (
    CoordinateMLP,
    CoordinateMLPConfig,
    StatisticsMode,
    batch_statistics,
    dense,
    freeze_statistics,
    frozen_statistics,
    running_norms,
)
from bn_field_plugin.nn import mlp as mlp_module
from bn_field_plugin.nn.blas import blas
from bn_field_plugin.nn.norms import NORMS, AffineNorm
from bn_field_plugin.nn.statistics import held_statistics
from tests.nn.cases import (
    CENTRED,
    ENCODINGS,
    NORMED,
    RUNNING,
    combinations,
    coordinates,
    draw,
    network,
    statistics,
    unchanged,
)

AFFINE = tuple(name for name, kind in NORMS.items() if kind is not None and issubclass(kind, AffineNorm))
"""Names of the norms that fold into linear layers."""

MANY = 40_000
"""A number of samples that evaluation splits into several blocks."""


class TorchStack(nn.Module):
    """The network as a stack of torch's layers, with its encoding and its weights."""

    def __init__(self, mlp: CoordinateMLP, momentum: float | None = 0.1) -> None:
        super().__init__()
        self.mlp_config, self.encoding = mlp.config, mlp.encoding
        self.linears, self.norms = nn.ModuleList(), nn.ModuleList()
        for layer in mlp.layers:
            out_features, in_features = layer.linear.weight.shape
            dtype = layer.linear.weight.dtype
            linear = nn.Linear(in_features, out_features, bias=layer.linear.bias is not None, dtype=dtype)
            linear.load_state_dict(layer.linear.state_dict())
            kind = {
                "none": lambda c, dtype: nn.Identity(),
                "batch": lambda c, dtype: nn.BatchNorm1d(c, momentum=momentum, dtype=dtype),
                "layer": lambda c, dtype: nn.LayerNorm(c, dtype=dtype),
            }[mlp.config.norm]
            norm = kind(out_features, dtype)
            if layer.norm is not None:
                norm.load_state_dict(layer.norm.state_dict())
            self.linears.append(linear)
            self.norms.append(norm)
        self.output = copy.deepcopy(mlp.output)

    def forward(self, x: Tensor) -> Tensor:
        config = self.mlp_config
        encoded = h = self.encoding(x)
        for index, (linear, norm) in enumerate(zip(self.linears, self.norms, strict=True)):
            if index in config.skips:
                h = torch.cat([encoded, h], -1)
            h = linear(h)
            h = norm(h) if config.placement == "before" else h
            h = F.relu(h) if config.activation == "relu" else torch.sin(config.omega * h)
            h = norm(h) if config.placement == "after" else h
        return self.output(h)

    def pairs(self, mlp: CoordinateMLP):
        """Parameters and buffers of both, side by side."""
        for layer, linear, norm in zip(mlp.layers, self.linears, self.norms, strict=True):
            yield from zip(layer.linear.parameters(), linear.parameters(), strict=True)
            if layer.norm is not None:
                yield from zip(layer.norm.parameters(), norm.parameters(), strict=True)
                yield from zip(layer.norm.buffers(), norm.buffers(), strict=True)
        yield from zip(mlp.output.parameters(), self.output.parameters(), strict=True)


@pytest.mark.parametrize("options", combinations(("none", "batch", "layer")))
def test_the_network_is_torchs_stack_through_training(options):
    momentum = None if options["activation"] == "sine" else 0.1
    ours = network(**options, momentum=momentum)
    theirs = TorchStack(ours, momentum)
    optimizers = [torch.optim.SGD(module.parameters(), lr=0.01) for module in (ours, theirs)]
    for step in range(3):
        x = coordinates(20, 3, seed=step)
        target = draw(20, 2, seed=90 + step)
        xs = [x.clone().requires_grad_() for _ in range(2)]
        ys = [module(x) for module, x in zip((ours, theirs), xs, strict=True)]
        torch.testing.assert_close(*ys, rtol=1e-8, atol=1e-9)
        for y, optimizer in zip(ys, optimizers, strict=True):
            optimizer.zero_grad()
            F.mse_loss(y, target).backward()
        torch.testing.assert_close(xs[0].grad, xs[1].grad, rtol=1e-7, atol=1e-8)
        for a, b in theirs.pairs(ours):
            if a.requires_grad:
                torch.testing.assert_close(a.grad, b.grad, rtol=1e-7, atol=1e-8)
        for optimizer in optimizers:
            optimizer.step()
    for a, b in theirs.pairs(ours):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)
    x = coordinates(20, 3, seed=7)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("placement", ["before", "after"])
@pytest.mark.parametrize("activation", ["relu", "sine"])
def test_in_fp32_batch_norm_agrees_with_torchs_to_rounding(placement, activation):
    ours = network(norm="batch", placement=placement, activation=activation, width=64, dtype=torch.float32)
    theirs = TorchStack(ours)
    x = coordinates(500, 3, dtype=torch.float32)
    ys = [module(x) for module in (ours, theirs)]
    torch.testing.assert_close(*ys, rtol=1e-4, atol=1e-4)
    for y in ys:
        y.square().mean().backward()
    for a, b in theirs.pairs(ours):
        if a.requires_grad:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4)
        else:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("placement", ["before", "after"])
@pytest.mark.parametrize("activation", ["relu", "sine"])
@pytest.mark.parametrize("norm", NORMED)
def test_gradients_are_right(norm, activation, placement):
    mlp = network(norm=norm, activation=activation, placement=placement, width=4, depth=2, skips=(1,))
    names = [name for name, _ in mlp.named_parameters()]

    def call(x, *parameters):
        return torch.func.functional_call(mlp, dict(zip(names, parameters, strict=True)), (x,))

    with batch_statistics(mlp):
        assert torch.autograd.gradcheck(call, (coordinates(5, 3).requires_grad_(), *mlp.parameters()))


@pytest.mark.parametrize("placement", ["before", "after"])
@pytest.mark.parametrize("norm", NORMED)
def test_invariance_to_the_scale_of_the_layer_before(norm, placement):
    """Batch norm takes away a positive scale of each unit, and other norms one scale of all units."""
    mlp = network(norm=norm, placement=placement, norm_eps=1e-14)
    x = coordinates(20, 3)
    expected = mlp(x)
    with torch.no_grad():
        for seed, layer in enumerate(mlp.layers):
            scale = 0.5 + draw(8 if norm == "batch" else 1, seed=seed).abs()
            layer.linear.weight.mul_(scale[:, None])
            if layer.linear.bias is not None:
                layer.linear.bias.mul_(scale)
    torch.testing.assert_close(mlp(x), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("norm", CENTRED)
def test_invariance_to_the_shift_of_the_layer_before(norm):
    """Batch norm takes away a shift of each unit, and other norms one shift of all units."""
    mlp = network(norm=norm)
    x = coordinates(20, 3)
    expected = mlp(x)
    with torch.no_grad():
        for layer in mlp.layers:
            if layer.linear.bias is None:
                layer.linear.bias = nn.Parameter(draw(8, seed=3))
            else:
                layer.linear.bias.add_(0.7)
    torch.testing.assert_close(mlp(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("norm", NORMED)
@pytest.mark.parametrize("placement", ["before", "after"])
def test_only_a_bias_that_batch_norm_takes_away_is_left_out(norm, placement):
    mlp = network(norm=norm, placement=placement)
    left_out = norm == "batch" and placement == "before"
    assert all((layer.linear.bias is None) == left_out for layer in mlp.layers)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", ["none", *NORMED])
def test_leading_dimensions_are_samples(norm, training):
    a, b = (network(norm=norm, encoding="positional").train(training) for _ in range(2))
    x = coordinates(4, 1, 5, 3)
    y = a(x)
    assert y.shape == (4, 1, 5, 2)
    assert torch.equal(y, b(x.reshape(-1, 3)).reshape(y.shape))
    assert unchanged(a, statistics(b))


# Evaluation. A BLAS may round a product differently for other numbers of rows, so results are equal up to
# rounding.


@pytest.mark.parametrize("options", combinations())
def test_blocks_without_gradients_equal_the_pass_with_them(options):
    mlp = network(**options).eval()
    x = coordinates(300, 3)
    with_gradients = mlp(x)
    assert with_gradients.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(mlp(x), with_gradients.detach(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("norm", ["none", *NORMED])
def test_evaluation_does_not_depend_on_chunks_order_or_company(norm, dtype):
    mlp = network(norm=norm, skips=(1,), encoding="positional", dtype=dtype).eval()
    x = coordinates(MANY, 3, dtype=dtype)
    close = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-13}
    with torch.no_grad():
        whole = mlp(x)
        for size in (1000, 16_385):
            torch.testing.assert_close(torch.cat([mlp(chunk) for chunk in x.split(size)]), whole, **close)
        torch.testing.assert_close(torch.cat([mlp(row[None]) for row in x[:20]]), whole[:20], **close)
        torch.testing.assert_close(mlp(x.flip(0)), whole.flip(0), **close)
        torch.testing.assert_close(mlp(torch.cat([x[:50], 100 * x[:9]]))[:50], whole[:50], **close)
        assert torch.equal(mlp(x), whole), "the same call twice differs"
    torch.testing.assert_close(mlp(x).detach(), whole, **close)


@pytest.mark.parametrize("norm", RUNNING)
def test_evaluation_reads_the_statistics_of_now(norm):
    """Folded weights are made anew after a training step, so the next call shows it."""
    mlp = network(norm=norm)
    x = coordinates(20, 3)
    with torch.no_grad():
        before = mlp(x)
        mlp.layers[1].norm.running_mean.add_(1)
        assert not torch.allclose(mlp(x), before, atol=1e-3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("norm", ["none", *NORMED])
@pytest.mark.parametrize("placement", ["before", "after"])
def test_no_samples_give_no_outputs_and_change_nothing(norm, placement):
    mlp = network(norm=norm, placement=placement, encoding="positional")
    before = statistics(mlp)
    for training in (True, False):
        y = mlp.train(training)(torch.zeros(4, 0, 3, dtype=torch.float64))
        assert y.shape == (4, 0, 2)
        y.sum().backward()
        with torch.no_grad():
            assert mlp(torch.zeros(0, 3, dtype=torch.float64)).shape == (0, 2)
    assert unchanged(mlp, before)


@pytest.mark.parametrize("norm", RUNNING)
@pytest.mark.parametrize("placement", ["before", "after"])
def test_one_sample_is_an_error_in_training_only(norm, placement):
    mlp = network(norm=norm, placement=placement)
    before = statistics(mlp)
    x = coordinates(1, 3)
    with pytest.raises(UserError, match="a batch of one sample"):
        mlp(x)
    with frozen_statistics(mlp):
        frozen = mlp(x)
    torch.testing.assert_close(mlp.eval()(x), frozen)
    with torch.no_grad():
        torch.testing.assert_close(mlp(x[0]), frozen[0])
    assert unchanged(mlp, before)


@pytest.mark.parametrize("bad", [math.inf, math.nan])
@pytest.mark.parametrize("placement", ["before", "after"])
@pytest.mark.parametrize("norm", RUNNING)
def test_a_non_finite_sample_changes_no_statistics(norm, placement, bad):
    mlp = network(norm=norm, placement=placement)
    before = statistics(mlp)
    x = coordinates(20, 3)
    x[4, 1] = bad
    mlp(x)
    assert unchanged(mlp, before)
    mlp(coordinates(20, 3))
    assert not unchanged(mlp, before)
    assert all(s.isfinite().all() for s in statistics(mlp))


# Configuration.


@pytest.mark.parametrize("name", ["in_dim", "out_dim", "width", "depth"])
def test_sizes_below_one_are_errors_that_name_the_option(name):
    with pytest.raises(UserError, match=rf"{name} is 0: it must be at least 1"):
        CoordinateMLP(CoordinateMLPConfig(**{name: 0}))


@pytest.mark.parametrize("skip", [-1, 0, 4, 9])
def test_a_skip_that_is_no_later_hidden_layer_is_an_error(skip):
    with pytest.raises(UserError, match=rf"skips holds {skip}: .* from 1 to 3"):
        CoordinateMLP(CoordinateMLPConfig(depth=4, skips=(2, skip)))


@pytest.mark.parametrize("name", ["norm", "activation", "placement", "init"])
def test_unknown_names_are_errors_that_list_the_known(name):
    with pytest.raises(UserError, match=rf"{name} is 'no-such-name': choose one of \w+, \w+"):
        CoordinateMLP(CoordinateMLPConfig(**{name: "no-such-name"}))


@pytest.mark.parametrize("shape", [(5, 2), (5, 4), (2, 5, 1)])
def test_coordinates_of_the_wrong_size_are_an_error(shape):
    with pytest.raises(UserError, match=rf"coordinates have {shape[-1]} entries: this network takes 3"):
        network()(torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize("norm", ["none", *NORMED])
def test_options_reach_the_norms(norm):
    mlp = network(norm=norm, norm_eps=1e-3, momentum=None, synchronize=False)
    for layer in mlp.layers:
        if norm == "none":
            assert layer.norm is None
            continue
        assert layer.norm.eps == 1e-3
        if norm in RUNNING:
            assert layer.norm.momentum is None
            assert layer.norm.synchronize is False


def test_initialisations():
    he = network(init="he", norm="none", width=512, dtype=torch.float32)
    assert he.layers[1].linear.weight.detach().std() == pytest.approx(math.sqrt(2 / 512), rel=0.02)
    assert not he.layers[1].linear.bias.any()
    siren = network(init="paper", activation="sine", omega=30.0, norm="none", width=512, dtype=torch.float32)
    assert siren.layers[0].linear.weight.detach().abs().max() == pytest.approx(1 / 3, rel=0.02)
    assert siren.layers[1].linear.weight.detach().abs().max() == pytest.approx(
        math.sqrt(6 / 512) / 30, rel=0.02
    )
    pytorch = network(init="pytorch", norm="none", width=512, dtype=torch.float32)
    assert pytorch.layers[1].linear.weight.detach().abs().max() == pytest.approx(1 / math.sqrt(512), rel=0.02)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("norm", ["none", *NORMED])
def test_copies_pickled_configs_and_state_dicts_make_the_same_network(norm, encoding):
    mlp = network(norm=norm, encoding=encoding)
    mlp(coordinates(20, 3))
    x = coordinates(20, 3, seed=5)
    config = pickle.loads(pickle.dumps(mlp.config))
    assert config == mlp.config
    loaded = CoordinateMLP(config).double()
    loaded.load_state_dict(mlp.state_dict())
    twins = [mlp, copy.deepcopy(mlp), loaded]
    for other in twins[1:]:
        assert torch.equal(other.eval()(x), mlp.eval()(x))
    outputs = [twin.train()(x) for twin in twins]
    for other, output in zip(twins, outputs, strict=True):
        assert torch.equal(output, outputs[0])
        assert unchanged(other, statistics(mlp))
    with pytest.raises(dataclasses.FrozenInstanceError):
        mlp.config.width = 3


def test_a_copy_shares_no_statistics():
    mlp = network(norm="batch")
    before = statistics(mlp)
    copy.deepcopy(mlp)(coordinates(20, 3))
    assert unchanged(mlp, before)


@pytest.mark.parametrize("norm", ["none", *NORMED])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_the_network_may_be_cast(norm, encoding, dtype):
    """It trains and evaluates in its new dtype, and outputs equal those in fp32 to its precision."""
    mlp = network(norm=norm, encoding=encoding, dtype=torch.float32)
    cast = copy.deepcopy(mlp).to(dtype)
    x = coordinates(50, 3).to(torch.bfloat16).to(dtype)  # the same numbers in every dtype
    for training in (True, False):
        expected = mlp.train(training)(x.float())
        y = cast.train(training)(x)
        assert y.dtype == dtype
        scale = expected.abs().max().item()
        torch.testing.assert_close(
            y.float(), expected, rtol=0, atol=max(60 * torch.finfo(dtype).eps, 1e-5) * scale
        )
        y.sum().backward()
        assert all(p.grad.isfinite().all() for p in cast.parameters())
        with torch.no_grad():
            assert cast(x).dtype == dtype
    assert all(s.isfinite().all() for s in statistics(cast))


def test_no_rows_give_every_parameter_a_gradient_of_zero():
    made = CoordinateMLP(CoordinateMLPConfig(in_dim=2, out_dim=1, width=4, depth=2))
    made(torch.empty(0, 2)).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in made.parameters())


def test_a_network_is_made_where_and_as_asked():
    config = CoordinateMLPConfig(in_dim=2, out_dim=1, width=4, depth=2)
    assert {p.device.type for p in CoordinateMLP(config, device="meta").parameters()} == {"meta"}
    assert {p.dtype for p in CoordinateMLP(config, dtype=torch.float64).parameters()} == {torch.float64}


# Training passes whose norms scale and shift by fixed numbers.


def by_definition(mlp: CoordinateMLP, x: Tensor) -> Tensor:
    """The network with its running statistics, norm by norm."""
    config = mlp.config
    h = encoded = mlp.encoding(x)
    for index, layer in enumerate(mlp.layers):
        norm, omega = layer.norm, config.omega
        h = torch.cat([encoded, h], -1) if index in config.skips else h
        h = F.linear(h, layer.linear.weight, layer.linear.bias)
        for is_norm in (True, False) if config.placement == "before" else (False, True):
            if not is_norm:
                h = F.relu(h) if config.activation == "relu" else torch.sin(omega * h)
            elif norm is not None:
                std = torch.sqrt(norm.running_var + norm.eps)
                h = (h - norm.running_mean) / std * norm.weight + norm.bias
    return mlp.output(h)


def with_gradients(network: Callable[[Tensor], Tensor], mlp: CoordinateMLP, x: Tensor) -> dict[str, Tensor]:
    """Outputs, and gradients of the samples and of each parameter."""
    leaf, names = x.clone().requires_grad_(), [name for name, _ in mlp.named_parameters()]
    y = network(leaf)
    found = torch.autograd.grad(y.square().sum(), [leaf, *mlp.parameters()])
    return {"y": y.detach(), "x": found[0], **dict(zip(names, found[1:], strict=True))}


SETTLED = {
    "frozen": lambda mlp: freeze_statistics(mlp.train()),
    "evaluation": lambda mlp: mlp.eval(),
}
"""Ways to fix what norms scale and shift by."""


@pytest.mark.parametrize("settle", SETTLED)
@pytest.mark.parametrize("options", combinations(("none", *AFFINE)))
def test_passes_with_fixed_statistics_are_those_of_the_definition(options, settle):
    mlp, x = network(**options), coordinates(20, 3)
    SETTLED[settle](mlp)
    before = statistics(mlp)
    expected = with_gradients(lambda leaf: by_definition(mlp, leaf), mlp, x)
    for name, value in with_gradients(mlp, mlp, x).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-10, msg=name)
    assert unchanged(mlp, before)


@pytest.fixture
def dense_passes(monkeypatch) -> list[int]:
    """Numbers of samples in each pass that goes through dense layers block by block."""
    seen: list[int] = []
    network = dense.network

    def counted(x: Tensor, *rest: object) -> object:
        seen.append(x.shape[0])
        return network(x, *rest)

    monkeypatch.setattr(dense, "network", counted)
    return seen


LARGE = dense.FEWEST_SAMPLES + 77
"""Samples of a batch that goes block by block."""
needs_mkl = pytest.mark.skipif(blas() is None, reason="this torch has no MKL")


@needs_mkl
@pytest.mark.parametrize("settle", SETTLED)
@pytest.mark.parametrize("placement", ["before", "after"])
@pytest.mark.parametrize("norm", ["none", *AFFINE])
def test_large_batches_with_fixed_statistics_go_block_by_block(norm, placement, settle, dense_passes):
    mlp = network(norm=norm, placement=placement, encoding="positional", dtype=torch.float32)
    SETTLED[settle](mlp)
    exact, before = copy.deepcopy(mlp).double(), statistics(mlp)
    x = coordinates(LARGE, 3, dtype=torch.float32)
    expected = with_gradients(lambda leaf: by_definition(exact, leaf), exact, x.double())
    found = with_gradients(mlp, mlp, x)
    assert dense_passes == [LARGE]
    for name, value in found.items():
        size = max(1.0, float(expected[name].abs().max()))
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-3, atol=1e-4 * size, msg=name)
    assert unchanged(mlp, before)


@needs_mkl
@pytest.mark.parametrize("activation", ["relu", "sine", "finer"])
@pytest.mark.parametrize("norm_layers", ["all", "ends"])
@pytest.mark.parametrize("mode", [StatisticsMode.AUTO, StatisticsMode.BATCH])
def test_batch_norm_behind_activations_splits_the_blocks(mode, norm_layers, activation, dense_passes):
    """Outputs, gradients and statistics are those of the layers one by one, in fp64."""
    config = CoordinateMLPConfig(
        in_dim=3,
        out_dim=2,
        width=9,
        depth=3,
        placement="after",
        norm_layers=norm_layers,
        activation=activation,
        init="paper",  # else sines of 30 z amplify rounding from layer to layer
    )
    mlp = CoordinateMLP(config).float()
    for norm in running_norms(mlp):
        norm.mode = mode
    exact = copy.deepcopy(mlp).double()
    x = coordinates(LARGE, 3, dtype=torch.float32)
    expected = with_gradients(exact, exact, x.double())
    found = with_gradients(mlp, mlp, x)
    assert dense_passes == [LARGE]
    for name, value in found.items():
        size = max(1.0, float(expected[name].abs().max()))
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-3, atol=1e-4 * size, msg=name)
    for ours, theirs in zip(running_norms(mlp), running_norms(exact), strict=True):
        assert ours.num_batches_tracked == theirs.num_batches_tracked == (mode is StatisticsMode.AUTO)
        torch.testing.assert_close(ours.running_mean.double(), theirs.running_mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(ours.running_var.double(), theirs.running_var, rtol=1e-5, atol=1e-6)


@needs_mkl
def test_held_statistics_and_hooks_keep_batch_norm_layer_by_layer(dense_passes):
    mlp, x = network(placement="after", dtype=torch.float32), coordinates(LARGE, 3, dtype=torch.float32)
    with held_statistics(mlp):
        mlp(x)
    seen: list[int] = []
    mlp.layers[0].norm.register_forward_hook(lambda *_: seen.append(1))
    mlp(x)
    assert seen == [1]
    assert dense_passes == []


@needs_mkl
def test_which_passes_go_block_by_block(dense_passes):
    x, options = coordinates(LARGE, 3, dtype=torch.float32), {"norm": "none", "dtype": torch.float32}
    network(**options)(x)
    with torch.no_grad():
        network(**options)(x)
    assert dense_passes == [LARGE, LARGE]
    network(**options)(x[:100])
    network(**options, activation="gauss")(x)
    network(**options, skips=(1,))(x)
    network(norm="none")(x.double())
    network(norm="layer", dtype=torch.float32)(x)
    network(norm="batch", placement="before", activation="sine", dtype=torch.float32)(x)
    with torch.autocast("cpu"):
        network(**options)(x)
    changed = network(**options)
    changed.layers[1].activation = torch.nn.Tanh()
    torch.testing.assert_close(changed(x), changed(x[:, None])[:, 0])
    hooked, seen = network(**options), []
    hooked.layers[1].activation.register_forward_hook(lambda *_: seen.append(1))
    hooked(x)
    assert seen
    assert dense_passes == [LARGE, LARGE]


@pytest.mark.parametrize("n", [20, LARGE])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_settled_passes_under_transforms_of_torch(encoding, n):
    """They see neither the blocks of samples nor those of coordinates that are encoded at a time."""
    mlp = network(norm="batch", encoding=encoding, dtype=torch.float32)
    freeze_statistics(mlp)
    x, tangent = coordinates(n, 3, dtype=torch.float32), coordinates(n, 3, seed=4, dtype=torch.float32)
    leaf = x.clone().requires_grad_()
    close = {"rtol": 1e-3, "atol": 1e-3}
    y, moved = torch.func.jvp(mlp, (x,), (tangent,))
    torch.testing.assert_close(y, mlp(x), **close)
    with forward_ad.dual_level():
        pair = forward_ad.unpack_dual(mlp(forward_ad.make_dual(x, tangent)))
    torch.testing.assert_close(pair.tangent, moved, **close)
    gradient = torch.func.grad(lambda points: mlp(points).square().sum())(x)
    torch.testing.assert_close(gradient, torch.autograd.grad(mlp(leaf).square().sum(), leaf)[0], **close)
    torch.testing.assert_close(torch.func.vmap(mlp)(torch.stack([x, -x])), mlp(torch.stack([x, -x])), **close)


def test_coordinates_of_settled_passes_are_encoded_in_parts(monkeypatch):
    mlp, x = network(norm="none", encoding="positional"), coordinates(20, 3)
    expected, sizes = mlp(x), []
    monkeypatch.setattr(mlp_module, "ENCODED_AT_A_TIME", 7)
    mlp.encoding.register_forward_hook(lambda _, given, __: sizes.append(given[0].shape[0]))
    torch.testing.assert_close(mlp(x), expected)
    assert sizes == [7, 7, 6]
    mlp(x.requires_grad_())
    assert sizes == [7, 7, 6, 20]


def test_weights_that_do_not_learn_get_no_gradient_in_settled_passes():
    mlp = network(norm="batch", dtype=torch.float32)
    freeze_statistics(mlp)
    mlp.layers[0].linear.weight.requires_grad_(False)
    for n in (20, LARGE):
        mlp.zero_grad()
        mlp(coordinates(n, 3, dtype=torch.float32)).sum().backward()
        assert mlp.layers[0].linear.weight.grad is None
        others = [p for p in mlp.parameters() if p.requires_grad]
        assert all(p.grad is not None and p.grad.isfinite().all() for p in others)
