"""Every way to the kernel equals brute force, and kernels obey their laws.

The structured way has four parts that are tested through it alone: `bn_field_plugin.ntk.structured`,
`bn_field_plugin.ntk.coupling`, `bn_field_plugin.ntk.tape` and `bn_field_plugin.ntk.row_norms`.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import CoordinateMLP, CoordinateMLPConfig, HashGridEncodingConfig
from bn_field_plugin.nn.batch_moments import BatchMoments, batch_moments
from bn_field_plugin.nn.norms import NORMS, AffineNorm, Norm
from bn_field_plugin.ntk import eigenvalues, grid, jacobian, ntk, random_points
from bn_field_plugin.ntk.autodiff import AutodiffJacobian
from bn_field_plugin.ntk.module_function import ModuleFunction
from bn_field_plugin.ntk.structured import StructuredJacobian
from tests.laws import cases
from tests.nn.cases import NORMED, coordinates, network, statistics, unchanged
from tests.ntk.oracle import distance, jacobian_by_jacrev

TOLERANCE = 1e-10
CASES = [
    pytest.param({"norm": norm, "placement": placement, "activation": activation, "skips": skips}, id=name)
    for norm, placement, activation, skips in itertools.product(
        ("none", *NORMED), ("before", "after"), ("relu", "sine"), ((), (1, 2))
    )
    if (name := "-".join([norm, placement, activation, "skip" if skips else "straight"]))
]


@pytest.mark.parametrize("options", CASES)
def test_every_way_equals_brute_force(options: dict) -> None:
    """Networks have two outputs, and norms have scales and shifts far from 1 and 0, with any statistics."""
    mlp, points = network(encoding="positional", **options), coordinates(11, 3)
    generator = torch.Generator().manual_seed(5)
    for source in ("batch", "frozen", "running"):
        truth = jacobian_by_jacrev(mlp, points, source)
        v = torch.randn(truth.shape[1], generator=generator, dtype=torch.float64)
        u = torch.randn(truth.shape[0], generator=generator, dtype=torch.float64)
        for backend in ("structured", "autodiff"):
            ours = jacobian(mlp, points, statistics=source, backend=backend)  # type: ignore[arg-type]
            assert (ours.num_outputs, ours.num_parameters) == truth.shape
            assert distance(ours.dense(), truth) < TOLERANCE
            assert distance(ours.kernel(), truth @ truth.T) < TOLERANCE
            assert distance(ours.gram(), truth.T @ truth) < TOLERANCE
            assert distance(ours.times(v), truth @ v) < TOLERANCE
            assert distance(ours.transposed_times(u), truth.T @ u) < TOLERANCE


@pytest.mark.parametrize("placement", ["before", "after"])
def test_layers_without_norm_between_normed_ones(placement: str) -> None:
    mlp = network(norm="batch", placement=placement, norm_layers="ends", depth=4, activation="sine")
    points = coordinates(11, 3)
    ours = jacobian(mlp, points, statistics="batch", backend="structured")
    assert distance(ours.dense(), jacobian_by_jacrev(mlp, points, "batch")) < TOLERANCE


class RootMeanSquareNorm(Norm):
    """A norm of single samples that the package does not know."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight + self.bias


class MeanNorm(AffineNorm):
    """A norm over the batch that subtracts the mean and does not scale."""

    def _moments(self, x: torch.Tensor, group: Any) -> BatchMoments:
        mean, var, count = batch_moments(x, group)
        return BatchMoments(mean, torch.ones_like(var), count)


@pytest.mark.parametrize("placement", ["before", "after"])
def test_a_norm_of_ones_own_goes_layer_by_layer_if_samples_stay_apart(
    placement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NORMS, "own", RootMeanSquareNorm)  # type: ignore[arg-type]
    mlp, points = network(norm="own", placement=placement), coordinates(11, 3)
    truth = jacobian_by_jacrev(mlp, points, "batch")
    assert distance(ntk(mlp, points, backend="structured"), truth @ truth.T) < TOLERANCE


def test_a_norm_of_ones_own_with_other_statistics_goes_back_from_each_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(NORMS, "own", MeanNorm)  # type: ignore[arg-type]
    mlp, points = network(norm="own"), coordinates(11, 3)
    truth = jacobian_by_jacrev(mlp, points, "batch")
    assert distance(ntk(mlp, points), truth @ truth.T) < TOLERANCE
    with pytest.raises(UserError, match="its norm takes statistics other than means and variances"):
        ntk(mlp, points, backend="structured")


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("activation", ["finer", "gauss", "wire-real"])
def test_other_activations_go_both_ways(activation: str, norm: str) -> None:
    mlp, points = network(activation=activation, norm=norm, init="paper", omega=None), coordinates(11, 3)
    structured, autodiff = (jacobian(mlp, points, backend=way) for way in ("structured", "autodiff"))
    assert isinstance(structured, StructuredJacobian) and isinstance(autodiff, AutodiffJacobian)
    assert distance(structured.dense(), autodiff.dense()) < TOLERANCE


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"activation": "wire"}, "complex numbers"),
        ({"encoding": HashGridEncodingConfig(2, 2, 4, 8, 6, init_scale=0.1)}, "encoding is learned"),
    ],
    ids=["complex", "grid"],
)
def test_what_has_no_structure_is_differentiated(options: dict, reason: str) -> None:
    torch.manual_seed(0)
    mlp = CoordinateMLP(CoordinateMLPConfig(3, 2, 6, 2, norm="none", **options)).double()
    points = coordinates(9, 3)
    assert distance(jacobian(mlp, points).dense(), jacobian_by_jacrev(mlp, points)) < TOLERANCE
    with pytest.raises(UserError, match=reason):
        jacobian(mlp, points, backend="structured")


@pytest.mark.parametrize("norm", ["none", *NORMED])
def test_the_kernel_is_symmetric_and_positive(norm: str) -> None:
    kernel = ntk(network(norm=norm, width=16), coordinates(30, 3))
    values = torch.linalg.eigvalsh(kernel)
    assert distance(kernel, kernel.T) < 1e-14
    assert float(values.min()) > -1e-12 * float(values.max())


@pytest.mark.parametrize("norm", ["none", "batch", "cross"])
@pytest.mark.parametrize("n", [5, 200])
def test_both_grams_have_the_same_spectrum(norm: str, n: int) -> None:
    """There are more parameters than outputs in one case, and fewer in the other."""
    mlp, points = network(norm=norm), coordinates(n, 3)
    by_kernel, by_gram = (eigenvalues(mlp, points, route=route) for route in ("kernel", "gram"))  # type: ignore[arg-type]
    assert by_kernel.shape == by_gram.shape == (2 * n,)
    assert abs(by_kernel - by_gram).max() < TOLERANCE * by_kernel.max()
    assert (by_kernel[:-1] >= by_kernel[1:]).all() and by_kernel.min() >= 0
    assert jacobian(mlp, points).gram().shape == (sum(p.numel() for p in mlp.parameters()),) * 2


@cases(10)
@given(st.permutations(range(9)), st.sampled_from(["none", *NORMED]))
def test_permuting_the_points_permutes_the_kernel(order: list[int], norm: str) -> None:
    mlp, points = network(norm=norm, out_dim=1), coordinates(9, 3)
    kernel = ntk(mlp, points)
    assert distance(ntk(mlp, points[order]), kernel[order][:, order]) < TOLERANCE


@pytest.mark.parametrize("norm", NORMED)
def test_one_step_of_descent_moves_the_outputs_along_the_kernel(norm: str) -> None:
    """By the kernel's meaning outputs move by -eta K g, to first order, with batch statistics."""
    from bn_field_plugin.nn import batch_statistics

    mlp, points = network(norm=norm, activation="sine"), coordinates(12, 3)
    kernel = ntk(mlp, points)
    direction = torch.randn(24, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    eta = 1e-7
    with batch_statistics(mlp):
        before = mlp(points).reshape(-1)
        gradients = torch.autograd.grad(before @ direction, list(mlp.parameters()))
        with torch.no_grad():
            for p, g in zip(mlp.parameters(), gradients, strict=True):
                p.sub_(g, alpha=eta)
        after = mlp(points).reshape(-1)
    assert distance((after - before).detach(), -eta * kernel @ direction) < 1e-3


@pytest.mark.parametrize("norm", ["batch", "global", "cross"])
def test_coupling_matters_and_leaves_the_module_alone(norm: str) -> None:
    mlp, points = network(norm=norm), coordinates(10, 3)
    before, weights = statistics(mlp), [p.clone() for p in mlp.parameters()]
    coupled, frozen, running = (
        ntk(mlp, points, statistics=source)  # type: ignore[arg-type]
        for source in ("batch", "frozen", "running")
    )
    assert distance(coupled, frozen) > 1e-2
    assert distance(running, frozen) > 1e-2
    assert unchanged(mlp, before)
    assert all(torch.equal(a, b) for a, b in zip(weights, mlp.parameters(), strict=True))


def test_statistics_are_frozen_at_what_the_batch_has() -> None:
    """Frozen statistics equal running ones that were calibrated on the same points."""
    from bn_field_plugin.nn import calibrate

    mlp, points = network(norm="batch"), coordinates(10, 3)
    frozen = ntk(mlp, points, statistics="frozen")
    calibrate(mlp, [points])
    assert distance(ntk(mlp, points, statistics="running"), frozen) < TOLERANCE


def test_blocks_of_samples_and_features_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    mlp, points = network(norm="batch", placement="after"), coordinates(23, 3)
    whole = StructuredJacobian(mlp, points)
    kernel, gram = whole.kernel(), whole.gram()
    for module, name, size in (
        ("coupling", "BLOCK_BYTES", 600),
        ("structured", "ROW_BYTES", 4000),
        ("autodiff", "BLOCK_BYTES", 30000),
    ):
        monkeypatch.setattr(f"bn_field_plugin.ntk.{module}.{name}", size)
    parts = StructuredJacobian(mlp, points)
    assert distance(parts.kernel(), kernel) < 1e-13
    assert distance(parts.gram(), gram) < 1e-13
    assert distance(jacobian(mlp, points, backend="autodiff").gram(), gram) < 1e-12


def test_the_backend_follows_the_sizes() -> None:
    few = jacobian(CoordinateMLP(CoordinateMLPConfig(2, 1, 64, 3)), random_points(16))
    many = jacobian(CoordinateMLP(CoordinateMLPConfig(2, 1, 64, 3)), random_points(200))
    frozen = jacobian(CoordinateMLP(CoordinateMLPConfig(2, 1, 64, 3)), random_points(16), statistics="frozen")
    assert isinstance(few, AutodiffJacobian)
    assert isinstance(many, StructuredJacobian) and isinstance(frozen, StructuredJacobian)


def test_parameters_that_are_not_learned_have_no_share() -> None:
    mlp, points = network(), coordinates(8, 3)
    for p in mlp.layers[0].parameters():
        p.requires_grad_(False)
    ours = jacobian(mlp, points)
    assert isinstance(ours, AutodiffJacobian)
    truth = jacobian_by_jacrev(mlp, points)[:, -ours.num_parameters :]
    assert distance(ours.dense(), truth) < TOLERANCE


class OldFunction(torch.autograd.Function):
    """An autograd function in the style from before torch.func."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x.exp()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad * ctx.saved_tensors[0].exp()


class Exponential(nn.Module):
    def __init__(self, old: bool) -> None:
        super().__init__()
        self.mlp, self.old = network(norm="batch", activation="sine"), old

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.mlp(x)
        return OldFunction.apply(y) if self.old else y.exp()


def test_modules_that_torch_func_does_not_take_go_by_plain_autograd() -> None:
    points = coordinates(7, 3)
    old, new = (jacobian(Exponential(old), points) for old in (True, False))
    v = torch.linspace(-1, 1, old.num_parameters, dtype=torch.float64)
    assert distance(old.dense(), new.dense()) < TOLERANCE
    assert distance(old.times(v), new.times(v)) < TOLERANCE


def test_parameters_without_influence_are_left_out_where_there_are_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(1000, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.table((x[:, 0] * 100).long().clamp(0, 999)).sum(-1).square()

    points = torch.rand(6, 2, generator=torch.Generator().manual_seed(0))
    whole = jacobian(Table(), points, statistics="running").num_parameters
    torch.manual_seed(0)
    module = Table()
    full = ntk(module, points)
    monkeypatch.setattr("bn_field_plugin.ntk.autodiff.SPARSE_PARAMETERS", 10)
    sparse = jacobian(module, points)
    assert whole == 3000
    assert sparse.dense().shape[1] <= 18
    assert distance(sparse.kernel(), full) < TOLERANCE


def test_torch_batch_norm_couples_and_keeps_its_statistics() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1)).double()
    before = module[1].running_mean.clone()
    points = random_points(9)
    coupled, frozen = (ntk(module, points, statistics=name) for name in ("batch", "frozen"))
    assert distance(coupled, frozen) > 1e-2
    assert torch.equal(module[1].running_mean, before)


class Broken(nn.Module):
    """A module whose output is wrong in a chosen way."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.linear = nn.Linear(2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x)
        return {
            "integer": lambda: (y > 0).long(),
            "detached": lambda: y.detach(),
            "random": lambda: y + torch.rand_like(y),
            "ragged": lambda: y[x[:, 0] > 0],
            "infinite": lambda: y / 0,
        }[self.how]()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("integer", "not differentiable"),
        ("detached", "not differentiable"),
        ("random", "differs from call to call"),
        ("ragged", "must not depend on the data"),
        ("infinite", "not finite"),
    ],
)
def test_unfit_outputs_are_named(how: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ntk(Broken(how), random_points(9))


def test_unfit_modules_and_points_are_named() -> None:
    points = random_points(4)
    with pytest.raises(UserError, match="half precision"):
        ntk(nn.Linear(2, 1).half(), points)
    with pytest.raises(UserError, match="half precision"):
        ModuleFunction(nn.Linear(2, 1), points, dtype=torch.bfloat16)
    with pytest.raises(UserError, match="no parameters"):
        ntk(nn.Tanh(), points)
    with pytest.raises(UserError, match="no parameters"):
        ntk(nn.Linear(2, 1).requires_grad_(False), points)
    with pytest.raises(UserError, match="CoordinateMLP"):
        ntk(nn.Linear(2, 1), points, backend="structured")
    with pytest.raises(UserError, match="2 of the 6 points are duplicates"):
        ntk(nn.Linear(2, 1), torch.cat([points, points[:2]]))


def test_what_does_not_fit_is_refused_with_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("kernel", "spectra"):
        monkeypatch.setattr(f"bn_field_plugin.ntk.{module}.available_bytes", lambda device: 10**6)
    mlp = CoordinateMLP(CoordinateMLPConfig(2, 1, 8, 2))
    with pytest.raises(UserError, match="take --route gram"):
        ntk(mlp, grid(20))
    assert len(eigenvalues(mlp, grid(20))) == 400
    with pytest.raises(UserError, match="matrix-free"):
        eigenvalues(CoordinateMLP(CoordinateMLPConfig(2, 1, 32, 3)), grid(20))
