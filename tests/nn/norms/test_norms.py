"""Norms equal torch's, or loops written from the definition, and keep sound statistics.

Norms are made by name: `bn_field_plugin.nn.norms.batch_norm`, `bn_field_plugin.nn.norms.layer_norm`,
`bn_field_plugin.nn.norms.global_norm`, `bn_field_plugin.nn.norms.cross_norm`, on top of
`bn_field_plugin.nn.norms.norm` and `bn_field_plugin.nn.norms.running_norm`, which has
`bn_field_plugin.nn.norms.update_bn`.
"""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import StatisticsMode, batch_statistics, frozen_statistics
from bn_field_plugin.nn.norms import NORMS, NormName, build_norm, keeps_statistics
from bn_field_plugin.nn.norms.running_norm import AffineNorm
from tests.laws import cases
from tests.nn.cases import CENTRED, NORMED, RUNNING, draw, statistics, unchanged, vary

EPS = 1e-5
TOLERANCE = {torch.float32: {"rtol": 1e-5, "atol": 1e-5}, torch.float64: {"rtol": 1e-11, "atol": 1e-12}}


def entries(x: Tensor) -> list[list[float]]:
    return [[float(v) for v in row] for row in x]


def moments(values: list[float]) -> tuple[float, float]:
    """Mean and biased variance, by exactly rounded sums."""
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((v - mean) ** 2 for v in values) / len(values)


def naive_global(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Global norm by its definition: one mean and one variance of all entries."""
    weight, bias = weight.detach(), bias.detach()
    rows = entries(x)
    mean, var = moments([v for row in rows for v in row])
    return torch.tensor(
        [
            [(v - mean) / math.sqrt(var + EPS) * float(weight[j]) + float(bias[j]) for j, v in enumerate(row)]
            for row in rows
        ],
        dtype=torch.float64,
    )


def naive_cross(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Cross norm by its definition: mean and variance of an entry's row and column together."""
    weight, bias = weight.detach(), bias.detach()
    rows = entries(x)
    n, c = len(rows), len(rows[0])
    out = torch.empty(n, c, dtype=torch.float64)
    for i in range(n):
        for j in range(c):
            cross = [rows[k][j] for k in range(n)] + [rows[i][k] for k in range(c) if k != j]
            assert len(cross) == n + c - 1
            mean, var = moments(cross)
            out[i, j] = (rows[i][j] - mean) / math.sqrt(var + EPS) * float(weight[j]) + float(bias[j])
    return out


NAIVE = {"global": naive_global, "cross": naive_cross}


def flat_norm(name: str, c: int, dtype: torch.dtype = torch.float64, **options):
    """A norm with scale and shift far from 1 and 0, and the statistics of a new one."""
    norm = build_norm(name, c, **options).to(dtype)
    with torch.no_grad():
        norm.weight.copy_(1 + 0.3 * draw(c, seed=11))
        norm.bias.copy_(0.3 * draw(c, seed=12))
    return norm


# Equal to torch's.


@cases(60, derandomize=True)
@given(
    n=st.integers(2, 70),
    c=st.integers(1, 40),
    momentum=st.sampled_from([0.1, 0.5, 1.0, None]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    offset=st.sampled_from([0.0, -3.0]),
)
def test_batch_norm_is_torchs_over_training_and_evaluation(n, c, momentum, dtype, offset):
    ours = flat_norm("batch", c, dtype, momentum=momentum)
    theirs = nn.BatchNorm1d(c, momentum=momentum, dtype=dtype)
    theirs.load_state_dict(ours.state_dict())  # The names are torch's too.
    close = TOLERANCE[dtype] | ({"atol": 1e-4, "rtol": 1e-4} if dtype == torch.float32 else {})
    for step in range(3):
        x = (draw(n, c, seed=step) * (1 + step) + offset).to(dtype)
        xs = [x.clone().requires_grad_() for _ in range(2)]
        grad = draw(n, c, seed=50 + step, dtype=dtype)
        ys = [norm(x) for norm, x in zip((ours, theirs), xs, strict=True)]
        for norm, y in zip((ours, theirs), ys, strict=True):
            norm.zero_grad()
            y.backward(grad)
        if n > 2:  # Two samples normalise to exactly +-1: gradients by x are all cancellation.
            torch.testing.assert_close(xs[0].grad, xs[1].grad, **close)
        torch.testing.assert_close(*ys, **close)
        torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, **close)
        torch.testing.assert_close(ours.bias.grad, theirs.bias.grad, **close)
        for name, value in theirs.named_buffers():
            torch.testing.assert_close(ours.get_buffer(name), value, **close)
    x = draw(n, c, seed=9, dtype=dtype)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), **close)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_layer_norm_is_torchs(dtype):
    ours, theirs = flat_norm("layer", 9, dtype), nn.LayerNorm(9, dtype=dtype)
    theirs.load_state_dict(ours.state_dict())
    xs = [draw(4, 5, 9, dtype=dtype).requires_grad_() for _ in range(2)]
    grad = draw(4, 5, 9, seed=3, dtype=dtype)
    for norm, x in zip((ours, theirs), xs, strict=True):
        norm(x).backward(grad)
    torch.testing.assert_close(ours(xs[0]), theirs(xs[1]), **TOLERANCE[dtype])
    torch.testing.assert_close(xs[0].grad, xs[1].grad, **TOLERANCE[dtype])
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, **TOLERANCE[dtype])


# Equal to the definition.


@cases(40, derandomize=True)
@given(
    name=st.sampled_from(sorted(NAIVE)),
    n=st.integers(2, 9),
    c=st.integers(1, 9),
    log_scale=st.integers(-2, 3),
    offset=st.floats(-5, 5),
)
def test_global_and_cross_norm_are_their_definitions(name, n, c, log_scale, offset):
    norm = flat_norm(name, c)
    x = draw(n, c) * 10.0**log_scale + offset
    torch.testing.assert_close(norm(x), NAIVE[name](x, norm.weight, norm.bias), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", RUNNING)
@pytest.mark.parametrize("ratio", [1e2, 1e4, 1e5])
def test_a_large_mean_does_not_cancel_the_variance(name, ratio):
    """The error is a few units in the last place of the mean; squares would lose every digit."""
    x = (draw(64, 8, seed=3) + ratio).float()
    norm = flat_norm(name, 8, torch.float32)
    exact = flat_norm(name, 8)(x.double())
    ulp = torch.finfo(torch.float32).eps * ratio
    assert (norm(x) - exact).abs().max() < 4 * ulp


def test_a_large_mean_of_each_column_and_row_does_not_cancel_in_cross_norm():
    x = draw(40, 6, seed=1) + 1e4 * draw(1, 6, seed=2) + 1e4 * draw(40, 1, seed=3)
    norm = flat_norm("cross", 6)
    torch.testing.assert_close(norm(x), naive_cross(x, norm.weight, norm.bias), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", RUNNING)
def test_running_statistics_average_those_of_the_batches(name):
    """Batch norm averages those of columns, global norm those of all entries; variances are unbiased."""
    norm = flat_norm(name, 4, momentum=0.25)
    mean, var = (
        torch.zeros(1 if name == "global" else 4).double(),
        torch.ones(1 if name == "global" else 4).double(),
    )
    for step in range(3):
        x = draw(5 + step, 4, seed=step) + step
        norm(x)
        columns = x.reshape(-1, 1) if name == "global" else x
        mean = 0.75 * mean + 0.25 * columns.mean(0)
        var = 0.75 * var + 0.25 * columns.var(0)
        assert norm.num_batches_tracked == step + 1
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, var)
    if name == "cross":
        assert norm.running_count == 7


@pytest.mark.parametrize("name", RUNNING)
def test_without_momentum_running_statistics_are_the_average_of_all_batches(name):
    norm = flat_norm(name, 3, momentum=None)
    batches = [draw(6, 3, seed=seed) * (seed + 1) for seed in range(4)]
    for x in batches:
        norm(x)
    columns = [x.reshape(-1, 1) if name == "global" else x for x in batches]
    torch.testing.assert_close(norm.running_mean, torch.stack([x.mean(0) for x in columns]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([x.var(0) for x in columns]).mean(0))


# Laws.


@pytest.mark.parametrize("name", NORMED)
@pytest.mark.parametrize("training", [True, False])
def test_leading_dimensions_are_samples(name, training):
    norms = [vary(build_norm(name, 6)).double().train(training) for _ in range(2)]
    x = draw(3, 5, 6)
    y = norms[0](x)
    assert y.shape == x.shape
    assert torch.equal(y, norms[1](x.reshape(15, 6)).reshape(3, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(norms[0].buffers(), norms[1].buffers(), strict=True))


def test_torchs_batch_norm_would_take_another_axis():
    """On [rays, samples, C] torch normalises the samples' axis, so our norms flatten leading dimensions."""
    x = draw(3, 5, 6)
    with pytest.raises(RuntimeError):
        nn.BatchNorm1d(6).double()(x)
    square = draw(3, 6, 6)
    assert not torch.allclose(nn.BatchNorm1d(6).double()(square), flat_norm("batch", 6)(square), atol=0.1)


@pytest.mark.parametrize("name", NORMED)
@pytest.mark.parametrize("mode", ["batch", "running"])
def test_gradients_are_right_to_second_order(name, mode):
    norm = vary(build_norm(name, 3)).double()
    if name in RUNNING:
        norm.mode = StatisticsMode.BATCH if mode == "batch" else StatisticsMode.FROZEN
    x = draw(4, 3).requires_grad_()

    def call(x, weight, bias):
        return torch.func.functional_call(norm, {"weight": weight, "bias": bias}, (x,))

    inputs = (x, norm.weight, norm.bias)
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


@cases(30, derandomize=True)
@given(data=st.data(), name=st.sampled_from(CENTRED))
def test_invariance_to_what_the_norm_takes_away(data, name):
    """Batch norm takes away each feature's scale and shift, layer norm each sample's, others common ones."""
    n, c = 6, 4
    norm = flat_norm(name, c, eps=1e-14)
    shape = {"batch": (1, c), "layer": (n, 1), "global": (1, 1), "cross": (1, 1)}[name]
    numbers = st.lists(
        st.tuples(st.floats(0.1, 10), st.floats(-10, 10)),
        min_size=math.prod(shape),
        max_size=math.prod(shape),
    )
    scale, shift = torch.tensor(data.draw(numbers), dtype=torch.float64).T.reshape(2, *shape)
    x = draw(n, c, seed=4)
    torch.testing.assert_close(norm(x * scale + shift), norm(x), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("c", [1, 3, 8, 67])
@pytest.mark.parametrize("name", NORMED)
def test_evaluation_is_bit_for_bit_independent_of_chunks_order_and_company(name, c, dtype):
    norm = vary(build_norm(name, c)).eval()
    x = draw(301, c, dtype=dtype)
    norm = norm if keeps_statistics(name) else norm.to(dtype)
    with torch.no_grad():
        whole = norm(x)
        for size in (1, 7, 64, 300):
            assert torch.equal(torch.cat([norm(chunk) for chunk in x.split(size)]), whole)
        order = torch.randperm(301, generator=torch.Generator().manual_seed(0))
        assert torch.equal(norm(x[order]), whole[order])
        assert torch.equal(norm(torch.cat([x, 1e6 * x]))[:301], whole)
        assert torch.equal(norm(x.T.contiguous().T), whole)
    assert torch.equal(norm(x), whole), "the pass with gradients differs"


@pytest.mark.parametrize("name", ["batch", "global"])
def test_affine_is_what_evaluation_does(name):
    norm = vary(build_norm(name, 5)).double().eval()
    assert isinstance(norm, AffineNorm)
    scale, shift = norm.affine()
    x = draw(7, 5)
    assert scale.shape == shift.shape == (5,)
    torch.testing.assert_close(norm(x), x * scale + shift, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", RUNNING)
def test_a_fresh_norm_evaluates_to_finite_values(name):
    """Before any batch, affine norms take the mean for 0 and the variance for 1."""
    for c in (1, 2, 8):
        norm, x = build_norm(name, c).eval(), draw(5, c, dtype=torch.float32)
        y = norm(x)
        assert y.isfinite().all() and y.shape == x.shape
        if isinstance(norm, AffineNorm):
            torch.testing.assert_close(y, x / (1 + norm.eps) ** 0.5)


# Sound statistics.


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("name", RUNNING)
def test_a_non_finite_batch_leaves_the_statistics_and_the_next_one_updates(name, momentum, bad):
    norm, twin = (flat_norm(name, 4, momentum=momentum) for _ in range(2))
    first, second = draw(6, 4), draw(8, 4, seed=1)
    poisoned = draw(20, 4, seed=2)
    poisoned[3, 2] = bad
    for module in (norm, twin):
        module(first)
    before = statistics(norm)
    norm(poisoned)
    assert unchanged(norm, before)
    for module in (norm, twin):
        module(second)
    assert unchanged(norm, statistics(twin))
    assert not unchanged(norm, before)


@pytest.mark.parametrize("name", RUNNING)
def test_a_batch_whose_variance_overflows_leaves_the_statistics(name):
    norm = flat_norm(name, 4, torch.float32)
    norm(draw(6, 4, dtype=torch.float32))
    before = statistics(norm)
    norm(draw(6, 4, dtype=torch.float32) * 1e30)
    assert unchanged(norm, before)


@pytest.mark.parametrize("name", RUNNING)
def test_one_overflow_of_fp16_leaves_the_statistics(name):
    norm = flat_norm(name, 4, torch.float32)
    norm(draw(6, 4, dtype=torch.float16))
    before = statistics(norm)
    x = draw(6, 4) * 100
    x[0, 0] = 1e5
    assert x.half()[0, 0].isinf()
    norm(x.half())
    assert unchanged(norm, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", RUNNING)
def test_half_precision_inputs_are_normalised_in_fp32(name, dtype):
    """Moments in half precision would be wrong: squares of 1e3 overflow fp16, and bf16 has 8 bits."""
    x = (draw(400, 4) * 300 + 1000).to(dtype)
    norm = flat_norm(name, 4, torch.float32)
    y, exact = norm(x), flat_norm(name, 4)(x.double())
    assert y.dtype == dtype
    assert norm.running_mean.dtype == norm.running_var.dtype == torch.float32
    torch.testing.assert_close(y.double(), exact, rtol=torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps)
    columns = x.double().reshape(-1, 1) if name == "global" else x.double()
    torch.testing.assert_close(norm.running_mean.double(), 0.1 * columns.mean(0), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(norm.running_var.double(), 0.9 + 0.1 * columns.var(0), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", RUNNING)
def test_a_module_in_half_still_learns_from_a_batch_larger_than_half_can_count(name):
    norm = build_norm(name, 2).half()
    x = draw(70_000, 2, dtype=torch.float16) + 1
    for _ in range(40):
        norm(x)
    torch.testing.assert_close(
        norm.running_mean.float(), torch.ones_like(norm.running_mean).float(), atol=0.05, rtol=0
    )
    torch.testing.assert_close(
        norm.running_var.float(), torch.ones_like(norm.running_var).float(), atol=0.05, rtol=0
    )
    with torch.no_grad():
        assert norm.eval()(x).isfinite().all()


@pytest.mark.parametrize("name", RUNNING)
def test_one_sample_is_an_error_in_training_and_fine_elsewhere(name):
    norm = vary(build_norm(name, 4))
    x = draw(1, 4, dtype=torch.float32)
    before = statistics(norm)
    for batch in (x, x[0], x[None]):
        with pytest.raises(UserError, match=r"one sample.*raise the number of rays") as error:
            norm(batch)
        assert "\n" not in str(error.value)
    assert unchanged(norm, before)
    with frozen_statistics(norm):
        frozen = norm(x)
    with torch.no_grad():
        assert torch.equal(norm(x), frozen)
    assert torch.equal(norm.eval()(x), frozen)
    with batch_statistics(norm), pytest.raises(UserError):
        norm(x)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", [(0, 4), (3, 0, 4)])
@pytest.mark.parametrize("name", NORMED)
def test_no_samples_pass_through_and_change_nothing(name, shape):
    norm = vary(build_norm(name, 4))
    before = statistics(norm)
    x = torch.empty(shape, requires_grad=True)
    for training in (True, False):
        y = norm.train(training)(x)
        assert y.shape == x.shape
        y.sum().backward()
    assert unchanged(norm, before)


# Names.


def test_names_for_command_lines_are_the_rows_of_the_table():
    assert get_args(NormName) == tuple(NORMS)


def test_every_name_builds_its_norm_with_its_options():
    for name, kind in NORMS.items():
        norm = build_norm(name, 5, eps=1e-3, momentum=0.2, synchronize=False)
        if kind is None:
            assert norm is None
            continue
        assert type(norm) is kind
        assert (norm.num_features, norm.eps) == (5, 1e-3)
        if name in RUNNING:
            assert (norm.momentum, norm.synchronize) == (0.2, False)


def test_an_unknown_name_is_an_error_that_lists_the_names():
    with pytest.raises(UserError, match=r"norm is 'bach': choose one of none, batch, layer, global, cross"):
        build_norm("bach", 4)


@pytest.mark.parametrize("name", NORMED)
@pytest.mark.parametrize("eps", [0.0, -1e-5, float("nan")])
def test_an_eps_that_is_not_above_zero_is_one_line(name, eps):
    with pytest.raises(UserError, match=r"norm_eps is .*: it must be above 0"):
        build_norm(name, 3, eps=eps)


@pytest.mark.parametrize("name", RUNNING)
@pytest.mark.parametrize("momentum", [-0.1, 1.5])
def test_a_momentum_out_of_its_range_is_one_line(name, momentum):
    with pytest.raises(UserError, match=r"momentum is .*: choose it from 0 to 1"):
        build_norm(name, 3, momentum=momentum)


@pytest.mark.parametrize("name", NORMED)
def test_norms_are_made_where_and_as_asked(name):
    norm = NORMS[name](3, device="meta", dtype=torch.float64)
    floating = [t for t in (*norm.parameters(), *norm.buffers()) if t.is_floating_point()]
    assert all(t.device.type == "meta" and t.dtype == torch.float64 for t in floating)


@pytest.mark.parametrize("name", RUNNING)
def test_no_rows_keep_their_graph(name):
    norm = NORMS[name](3)
    norm(torch.empty(0, 3)).sum().backward()
    assert all(torch.equal(p.grad, torch.zeros(3)) for p in norm.parameters())
