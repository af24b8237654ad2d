"""Every route of `batch_norm_linear` is torch's linear layer followed by its batch norm and ReLU."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import forward_ad

from bn_field_plugin.nn import batch_linear, compiled_batch_norm, products
from bn_field_plugin.nn.batch_linear import batch_norm_linear, choose_route
from tests.nn.cases import draw
from tests.processes import results_of_two

ROUTES = ("plain", "moments", "compiled", "native")
DTYPES = (torch.float32, torch.float64)
EPS = 1e-5
CLOSE: dict[torch.dtype, dict[str, float]] = {
    torch.float32: {"rtol": 1e-3, "atol": 2e-4},
    torch.float64: {"rtol": 1e-9, "atol": 1e-11},
}
each_route = pytest.mark.parametrize("route", ROUTES)
each_relu = pytest.mark.parametrize("relu", [False, True])
small_blocks = pytest.mark.usefixtures("few_samples_in_a_block")


@pytest.fixture
def few_samples_in_a_block(monkeypatch):
    """Make blocks so small that a few samples fill several, and leave a rest."""
    monkeypatch.setattr(products, "BLOCK", 4)
    monkeypatch.setattr(compiled_batch_norm, "BLOCK", 4)


def arguments(n: int, d: int, c: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Input, weight, scale (one negative) and shift of a layer, far from standardised."""
    x = draw(n, d, seed=seed, dtype=dtype) * 2 + 1
    weight = draw(c, d, seed=seed + 1, dtype=dtype)
    gamma, beta = draw(c, seed=seed + 2, dtype=dtype) + 1.5, draw(c, seed=seed + 3, dtype=dtype) / 2
    gamma[0] = -1.5
    return [x, weight, gamma, beta]


def results(route: str, inputs: list[Tensor], grad: Tensor, relu: bool, group=None) -> list[Tensor]:
    """Output, moments and all gradients."""
    leaves = [t.clone().requires_grad_() for t in inputs]
    y, (mean, var, _) = batch_norm_linear(*leaves, EPS, group, relu, route)
    return [y.detach(), mean, var, *torch.autograd.grad(y, leaves, grad)]


def oracle(inputs: list[Tensor], grad: Tensor, relu: bool) -> list[Tensor]:
    """The results of torch's layers, in fp64."""
    x, weight, gamma, beta = leaves = [t.double().requires_grad_() for t in inputs]
    z = F.linear(x, weight)
    y = F.batch_norm(z, None, None, gamma, beta, training=True, eps=EPS)
    y = F.relu(y) if relu else y
    gradients = torch.autograd.grad(y, leaves, grad.double())
    return [y.detach(), z.detach().mean(0), z.detach().var(0, correction=0), *gradients]


def assert_close(actual: list[Tensor], expected: list[Tensor], rtol: float, atol: float) -> None:
    """Compare lists of `results`; `atol` is relative to the terms of sums, since sums may cancel."""
    samples = expected[0].shape[0] ** 0.5
    scales = {
        "output": 1.0,
        "mean": 1.0,
        "var": 1.0,
        "x": 1.0,
        "weight": samples,
        "gamma": samples,
        "beta": samples,
    }
    for (name, scale), a, b in zip(scales.items(), actual, expected, strict=True):
        size = max(scale, b.abs().max().item() if b.numel() else 0.0)
        torch.testing.assert_close(
            a.double(), b.double(), rtol=rtol, atol=atol * size, msg=lambda text, name=name: f"{name}: {text}"
        )


@given(
    n=st.sampled_from([8, 50, products.BLOCK, 2 * products.BLOCK + 7]),
    d=st.integers(1, 9),
    c=st.integers(1, 9),
    seed=st.integers(0, 1000),
    relu=st.booleans(),
    dtype=st.sampled_from(DTYPES),
    route=st.sampled_from([*ROUTES, "auto"]),
)
def test_equal_to_torch_forward_and_backward(n, d, c, seed, relu, dtype, route):
    inputs = arguments(n, d, c, seed, dtype)
    grad = draw(n, c, seed=seed + 4)
    y = oracle(inputs, grad, relu=False)[0]
    grad[y.abs() < 1e-3] = 0  # near zero, rounding decides what ReLU does
    assert_close(results(route, inputs, grad.to(dtype), relu), oracle(inputs, grad, relu), **CLOSE[dtype])


@small_blocks
@each_route
@each_relu
def test_gradients_of_first_and_second_order(route, relu):
    inputs = [t.requires_grad_() for t in arguments(11, 3, 4)]

    def layer(*inputs: Tensor) -> Tensor:
        return batch_norm_linear(*inputs, EPS, None, relu, route)[0]

    assert torch.autograd.gradcheck(layer, inputs)
    assert torch.autograd.gradgradcheck(layer, inputs)


@each_route
def test_only_the_gradients_asked_for(route):
    grad = draw(40, 5)
    expected = results(route, arguments(40, 3, 5), grad, True)[3:]
    for wanted in range(4):
        inputs = arguments(40, 3, 5)
        inputs[wanted].requires_grad_()
        y, moments = batch_norm_linear(*inputs, EPS, None, True, route)
        y.backward(grad)
        assert not any(m.requires_grad for m in moments)
        assert [t.grad is not None for t in inputs] == [i == wanted for i in range(4)]
        torch.testing.assert_close(inputs[wanted].grad, expected[wanted])


@small_blocks
@each_route
@each_relu
@pytest.mark.parametrize("layout", ["expanded", "transposed"])
def test_any_layout_of_input_and_gradient(route, relu, layout):
    inputs = arguments(50, 6, 6)
    inputs[0] = inputs[0].T.contiguous().T
    grad = torch.ones(()).double().expand(50, 6) if layout == "expanded" else draw(6, 50).T
    assert_close(results(route, inputs, grad, relu), oracle(inputs, grad, relu), **CLOSE[torch.float64])


@each_route
@each_relu
def test_inputs_and_gradient_are_left_alone(route, relu):
    inputs, grad = arguments(50, 6, 6), draw(50, 6)
    before = [t.clone() for t in [*inputs, grad]]
    leaves = [t.requires_grad_() for t in inputs]
    batch_norm_linear(*leaves, EPS, None, relu, route)[0].backward(grad)
    assert all(torch.equal(a, b) for a, b in zip([*inputs, grad], before, strict=True))


# Sound numbers


@pytest.mark.parametrize("route", [*ROUTES, "auto"])
def test_a_large_mean_cancels_nothing(route):
    n = 2**17
    inputs = arguments(n, 3, 8, dtype=torch.float32)
    inputs[0] = (draw(n, 3) + 3e3).float()
    grad = draw(n, 8)
    actual, expected = results(route, inputs, grad.float(), False), oracle(inputs, grad, False)
    # fp32 rounds the product to 1e-4 of its deviation; a difference of squares would lose all of it.
    assert (actual[0] - expected[0]).abs().max() < 5e-3
    torch.testing.assert_close(actual[2].double(), expected[2], rtol=1e-3, atol=0)


@pytest.mark.parametrize("route", [*ROUTES, "auto"])
def test_a_direction_without_variance_cancels_nothing(route):
    n = 20000
    x = draw(n, 1) * 3 + torch.tensor([[0.0, 0.0]]) + 1e-3 * draw(n, 2, seed=1)
    weight = torch.tensor([[100.0, -100.0], [1.0, 1.0]])
    inputs = [x.float(), weight, torch.ones(2), torch.zeros(2)]
    y, (_, var, _) = batch_norm_linear(*inputs, EPS, route=route)
    expected = oracle(inputs, draw(n, 2), False)
    torch.testing.assert_close(var.double(), expected[2], rtol=1e-3, atol=0)
    assert (y - expected[0]).abs().max() < 5e-3


def test_each_route_is_the_one_that_runs():
    def takes(*inputs: Tensor, route: str = "auto") -> str:
        y, _ = batch_norm_linear(*(t.requires_grad_() for t in inputs), EPS, route=route)
        return y.grad_fn.name()

    ordinary = arguments(64, 5, 5, dtype=torch.float32)
    assert takes(*ordinary, route="moments").startswith("_MomentsRoute")
    assert takes(*ordinary, route="compiled").startswith("_CompiledRoute")
    assert takes(*ordinary, route="native").startswith("NativeBatchNorm")
    assert takes(*ordinary, route="plain").startswith("Add")
    far = [ordinary[0].detach() + 1e4, *ordinary[1:]]
    assert takes(*far, route="moments").startswith("Add")
    assert takes(*far, route="native").startswith("Add")
    many = arguments(65536, 28, 28, dtype=torch.float32)
    assert takes(*many).startswith("_CompiledRoute")
    assert takes(*(t.detach().double() for t in many)).startswith("_MomentsRoute")
    widening = arguments(65536, 7, 28, dtype=torch.float32)
    assert takes(*widening).startswith("_MomentsRoute")
    wide = arguments(4096, 256, 256, dtype=torch.float32)
    assert takes(*wide).startswith("_CompiledRoute")
    assert takes(*(t.detach().double() for t in wide)).startswith("NativeBatchNorm")


def test_joined_processes_take_a_route_that_joins():
    for width in (2, 28, 64, 256):
        assert choose_route(2**16, width, width, torch.device("cpu"), torch.float32, True) in (
            "moments",
            "plain",
        )


def test_second_derivatives_of_the_compiled_route_are_the_plain_ones():
    def second(route: str) -> list[Tensor]:
        leaves = [t.requires_grad_() for t in arguments(40, 3, 4, dtype=torch.float32)]
        y, _ = batch_norm_linear(*leaves, EPS, None, True, route)
        first = torch.autograd.grad(y.square().sum(), leaves, create_graph=True)
        return list(torch.autograd.grad(sum(g.square().sum() for g in first), leaves))

    for a, b in zip(second("compiled"), second("plain"), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-3 * b.abs().max().item())


def test_torchs_kernels_serve_where_numba_does_not_work(monkeypatch):
    monkeypatch.setattr(compiled_batch_norm, "kernels", lambda: None)
    inputs, grad = arguments(50, 6, 6, dtype=torch.float32), draw(50, 6, dtype=torch.float32)
    assert choose_route(2**14, 64, 64, torch.device("cpu"), torch.float32) == "native"
    for route in ("auto", "compiled"):
        assert_close(results(route, inputs, grad, True), oracle(inputs, grad, True), rtol=1e-3, atol=2e-4)


def test_the_compiled_loops_keep_the_variance_of_features_far_from_zero():
    x = draw(3000, 2, dtype=torch.float32) + 1e3
    inputs = [x, torch.eye(2), torch.ones(2), torch.zeros(2)]
    y, (mean, var, _) = batch_norm_linear(*inputs, EPS, route="compiled")
    torch.testing.assert_close(mean.double(), x.double().mean(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(var.double(), x.double().var(0, correction=0), rtol=1e-4, atol=0)
    assert y.mean(0).abs().max() < 1e-3


def test_the_compiled_loops_give_the_same_bits_for_any_number_of_threads():
    inputs, grad = arguments(5000, 6, 7, dtype=torch.float32), draw(5000, 7, dtype=torch.float32)
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            leaves = [t.clone().requires_grad_() for t in inputs]
            z = torch.zeros(5000, 7) + inputs[0][:, :1]  # a sum of one term has no order
            y, _ = batch_norm_linear(
                z.requires_grad_(), torch.eye(7), leaves[2], leaves[3], EPS, None, True, "compiled"
            )
            found.append([y.detach(), *torch.autograd.grad(y, leaves[2:], grad)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


def test_what_is_not_a_number_stays_so_behind_the_relu():
    inputs = arguments(64, 3, 4, dtype=torch.float32)
    inputs[0][5, 1] = torch.nan
    y, _ = batch_norm_linear(*inputs, EPS, None, True, "compiled")
    assert y.isnan().all()


@pytest.mark.parametrize("n", [1000, 65536])
@pytest.mark.parametrize("width", [2, 28, 256])
def test_routes_but_plain_are_for_cpus_and_full_precision(n, width):
    for device, dtype in (("cuda", torch.float32), ("cpu", torch.bfloat16), ("cpu", torch.float16)):
        assert choose_route(n, width, width, torch.device(device), dtype) == "plain"
    assert choose_route(n, width, width, torch.device("cpu"), torch.float32) != "plain"


@each_route
def test_features_without_variance_become_the_shift(route):
    x, weight, gamma, beta = arguments(40, 3, 4)
    for inputs in ((torch.full_like(x, 2.0), weight), (x, torch.zeros_like(weight))):
        y, (_, var, _) = batch_norm_linear(*inputs, gamma, beta, EPS, route=route)
        torch.testing.assert_close(y, beta.expand(40, 4))
        torch.testing.assert_close(var, torch.zeros(4).double())


@each_route
def test_rounding_makes_no_variance_negative(route):
    x = torch.full((3000, 5), 1e-3) * torch.arange(1, 6)
    weight = draw(50, 5, dtype=torch.float32)
    _, (_, var, _) = batch_norm_linear(x, weight, torch.ones(50), torch.zeros(50), EPS, route=route)
    assert (var >= 0).all()


@pytest.mark.parametrize("route", [*ROUTES, "auto"])
@pytest.mark.parametrize("n", [0, 1])
def test_no_sample_and_one_sample_give_no_nan(route, n):
    inputs = [t.requires_grad_() for t in arguments(n, 3, 4)]
    y, (mean, var, count) = batch_norm_linear(*inputs, EPS, None, True, route)
    y.sum().backward()
    torch.testing.assert_close(y, F.relu(inputs[3]).expand(n, 4))
    torch.testing.assert_close(mean, (inputs[0] @ inputs[1].T).sum(0))
    torch.testing.assert_close(var, torch.zeros(4).double())
    assert count == n
    for t in inputs[1:3]:
        torch.testing.assert_close(t.grad, torch.zeros_like(t))


@each_route
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_non_finite_sample_shows_in_the_moments(route, value):
    inputs = arguments(40, 3, 4)
    inputs[0][7, 1] = value
    _, (_, var, _) = batch_norm_linear(*inputs, EPS, route=route)
    assert not var.isfinite().any()


# Precision of autocast


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_keeps_the_statistics_in_full_precision(dtype):
    inputs = arguments(4000, 5, 6, dtype=torch.float32)
    leaves = [t.clone().requires_grad_() for t in inputs]
    with torch.autocast("cpu", dtype=dtype):
        y, (mean, var, _) = batch_norm_linear(*leaves, EPS, relu=True)
    y.float().sum().backward()
    assert y.dtype == dtype
    assert mean.dtype == var.dtype == torch.float32
    z = F.linear(inputs[0].to(dtype), inputs[1].to(dtype)).double()
    torch.testing.assert_close(mean.double(), z.mean(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(var.double(), z.var(0, correction=0), rtol=1e-4, atol=0)
    expected = oracle(inputs, torch.ones(4000, 6), True)
    assert (y - expected[0]).abs().max() < 0.1
    assert all(t.grad.dtype == torch.float32 and t.grad.isfinite().all() for t in leaves)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_inputs_have_statistics_in_full_precision(dtype):
    inputs = [t.requires_grad_() for t in arguments(4000, 5, 6, dtype=dtype)]
    y, (mean, var, _) = batch_norm_linear(*inputs, EPS)
    y.sum().backward()
    assert y.dtype == dtype and mean.dtype == var.dtype == torch.float32
    assert all(t.grad.dtype == dtype and t.grad.isfinite().all() for t in inputs)


@pytest.mark.parametrize("route", ["moments", "compiled", "native"])
def test_a_named_route_is_not_cast(route):
    inputs, grad = arguments(50, 6, 6, dtype=torch.float32), draw(50, 6, dtype=torch.float32)
    expected = results(route, inputs, grad, True)
    leaves = [t.clone().requires_grad_() for t in inputs]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, (mean, var, _) = batch_norm_linear(*leaves, EPS, None, True, route)
        gradients = torch.autograd.grad(y, leaves, grad) if route != "native" else expected[3:]
    assert_close([y.detach(), mean, var, *gradients], expected, rtol=1e-6, atol=1e-6)


# Transformations


@pytest.mark.parametrize("fastest", ["moments", "compiled", "native"])
def test_functional_and_forward_mode_differentiation(monkeypatch, fastest):
    monkeypatch.setattr(batch_linear, "choose_route", lambda *_: fastest)
    inputs = arguments(17, 3, 4)
    tangents = [draw(*t.shape, seed=7) for t in inputs]

    def layer(*inputs: Tensor, route: str = "auto") -> Tensor:
        return batch_norm_linear(*inputs, EPS, None, True, route)[0]

    expected = torch.autograd.functional.jacobian(lambda *t: layer(*t, route="plain"), tuple(inputs))
    jacobians = torch.func.jacrev(layer, argnums=(0, 1, 2, 3))(*inputs)
    for a, b in zip(jacobians, expected, strict=True):
        torch.testing.assert_close(a, b)
    directional = sum(torch.tensordot(j, t, dims=t.dim()) for j, t in zip(expected, tangents, strict=True))
    torch.testing.assert_close(torch.func.jvp(layer, tuple(inputs), tuple(tangents))[1], directional)
    with forward_ad.dual_level():
        dual = layer(*(forward_ad.make_dual(t, v) for t, v in zip(inputs, tangents, strict=True)))
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, directional)
    batched = torch.func.vmap(layer)(*(torch.stack([t, t + 1]) for t in inputs))
    torch.testing.assert_close(batched[0], layer(*inputs))


def test_one_graph_for_the_compiler():
    torch._dynamo.reset()
    inputs = arguments(20000, 4, 4, dtype=torch.float32)
    compiled = torch.compile(batch_norm_linear, backend="eager", fullgraph=True)
    torch.testing.assert_close(
        compiled(*inputs, EPS)[0], batch_norm_linear(*inputs, EPS)[0], rtol=1e-3, atol=1e-4
    )


# Processes

SPLITS = {"unequal": (5, 18), "one sample": (1, 22), "no sample": (23, 0)}
FAR = 1e4


def shares(split: str) -> list[slice]:
    first, second = SPLITS[split]
    return [slice(0, first), slice(first, first + second)]


def far_layer() -> list[Tensor]:
    x, *rest = arguments(23, 3, 4, dtype=torch.float32)
    return [x + FAR, *rest]


def worker(rank: int) -> dict:
    """Results of all cases in one of two processes."""
    group, found, grad = dist.group.WORLD, {}, draw(23, 4)
    for split in SPLITS:
        rows = shares(split)[rank]
        for route in (*ROUTES, "auto"):
            x, *rest = arguments(23, 3, 4)
            found[split, route] = results(route, [x[rows], *rest], grad[rows], True, group)
        x, *rest = far_layer()
        found[split, "far"] = results("moments", [x[rows], *rest], grad[rows].float(), False, group)
    batch_linear.choose_route = lambda n, *_: "moments" if n >= 10 else "plain"
    for split in SPLITS:
        rows = shares(split)[rank]
        x, *rest = arguments(23, 3, 4)
        found[split, "auto by size"] = results("auto", [x[rows], *rest], grad[rows], True, group)
    x, weight, gamma, beta = arguments(23, 3, 4, dtype=torch.float32)
    x[:, 1] = x[:, 0]
    weight[0] = torch.tensor([1.0, -1.0 if rank == 0 else 1.0, 0.0])  # along x, and across it
    found["dissent"] = results("moments", [x, weight, gamma, beta], grad.float(), True, group)
    nothing = arguments(0, 3, 4)
    found["nothing"] = results("moments", nothing, draw(0, 4), True, group)
    return found


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> list[dict]:
    if not (dist.is_available() and dist.is_gloo_available()):
        pytest.skip("this torch has no gloo")
    return results_of_two(worker, tmp_path_factory.mktemp("processes"))


def joined(two: list[list[Tensor]]) -> list[Tensor]:
    """The results of both processes as those of one: samples joined, parameters' gradients added."""
    (y, mean, var, x, *parameters), (y2, mean2, var2, x2, *parameters2) = two
    torch.testing.assert_close([mean, var], [mean2, var2])
    added = [p + q for p, q in zip(parameters, parameters2, strict=True)]
    return [torch.cat([y, y2]), mean, var, torch.cat([x, x2]), *added]


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("route", [*ROUTES, "auto", "auto by size"])
def test_two_processes_equal_the_joined_batch(two_processes, split, route):
    actual = joined([found[split, route] for found in two_processes])
    assert_close(actual, oracle(arguments(23, 3, 4), draw(23, 4), True), **CLOSE[torch.float64])


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_processes_hand_over_together_where_moments_cancel(two_processes, split):
    actual = joined([found[split, "far"] for found in two_processes])
    expected = oracle(far_layer(), draw(23, 4), False)
    assert (actual[0] - expected[0]).abs().max() < 2e-2  # fp32 rounds the product to 1e-3
    torch.testing.assert_close(actual[2].double(), expected[2], rtol=1e-2, atol=0)


@pytest.mark.slow
def test_processes_whose_weights_differ_take_one_route(two_processes):
    for found in two_processes:
        assert all(t.isfinite().all() for t in found["dissent"])


@pytest.mark.slow
def test_no_sample_in_any_process_gives_no_nan(two_processes):
    for found in two_processes:
        assert all(t.isfinite().all() for t in found["nothing"])


def test_moments_join_few_numbers(monkeypatch):
    sizes = []

    class Alone:
        """A group of one process, whose sums are the tensors themselves."""

    monkeypatch.setattr(batch_linear.dist, "all_reduce", lambda x, **_: sizes.append(x.numel()))
    inputs = [t.requires_grad_() for t in arguments(200, 3, 4)]
    batch_norm_linear(*inputs, EPS, Alone(), True, "moments")[0].sum().backward()
    assert sizes == [3 * 3 + 3 + 1, 1, 2 * 4]  # moments and count, the vote, gradients of the moments
