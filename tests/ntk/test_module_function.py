"""Users' modules: torch's norms take the wanted statistics, precision is one, mistakes are explained.

Copying them (`bn_field_plugin.ntk.module_copy`) and holding their norms (`bn_field_plugin.ntk.held_norms`) is
tested here, by what a `ModuleFunction` does with it.
"""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bn_field_plugin import CoordinateMLP, CoordinateMLPConfig, UserError
from bn_field_plugin.ntk.kernel import ntk
from bn_field_plugin.ntk.module_function import CoupledError, ModuleFunction, Statistics
from bn_field_plugin.ntk.points import grid

POINTS = grid(4, 2)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make()


def oracle(module: nn.Module, points: Tensor = POINTS) -> np.ndarray:
    """J J^T by torch.func, of a module that has the right mode already, in fp64."""
    parameters = {name: p.detach() for name, p in module.named_parameters()}

    def outputs(given: dict[str, Tensor]) -> Tensor:
        buffers = {name: b.clone() for name, b in module.named_buffers()}
        return torch.func.functional_call(module, {**buffers, **given}, (points,)).reshape(-1)

    jacobian = torch.cat([j.flatten(1) for j in torch.func.jacrev(outputs)(parameters).values()], 1)
    return (jacobian @ jacobian.T).numpy()


def with_norms(norm: Callable[[int], nn.Module] = nn.BatchNorm1d) -> nn.Module:
    return nn.Sequential(
        nn.Linear(2, 6), norm(6), nn.Tanh(), nn.Linear(6, 5), norm(5), nn.ReLU(), nn.Linear(5, 2)
    )


def held(module: nn.Module, points: Tensor = POINTS) -> nn.Module:
    """A copy whose torch batch norms keep the statistics of the points: biased variance, in evaluation."""
    module = copy.deepcopy(module).double().train()
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm1d)]
    for norm in norms:
        norm.momentum = 1.0
    module(points)
    for norm in norms:
        assert norm.running_var is not None
        norm.running_var *= (len(points) - 1) / len(points)
    return module.eval()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("statistics", ["batch", "frozen", "running"])
def test_torch_s_batch_norms_use_the_statistics_that_are_asked_for(
    statistics: Statistics, training: bool
) -> None:
    module = seeded(with_norms)
    module(torch.randn(50, 2))  # running statistics unlike those of a new norm
    before = copy.deepcopy(module.state_dict())
    module.train(training)
    want = {
        "batch": lambda: oracle(copy.deepcopy(module).double().train()),
        "frozen": lambda: oracle(held(module)),
        "running": lambda: oracle(copy.deepcopy(module).double().eval()),
    }[statistics]()
    found = ntk(module, POINTS, statistics=statistics)
    np.testing.assert_allclose(np.asarray(found), want, rtol=1e-8, atol=1e-10)
    assert module.training is training
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def test_norms_without_running_statistics_are_frozen_and_refused_running() -> None:
    module = seeded(lambda: with_norms(lambda c: nn.BatchNorm1d(c, track_running_stats=False)))
    frozen = seeded(with_norms)
    np.testing.assert_allclose(
        np.asarray(ntk(module, POINTS, statistics="frozen")), oracle(held(frozen)), rtol=1e-8, atol=1e-10
    )
    with pytest.raises(UserError, match="no running statistics"):
        ModuleFunction(module, POINTS, "running")


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm, self.outer = nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.norm(self.norm(self.inner(x)).tanh()))


class OwnNorm(nn.Module):
    """A user's own batch norm, which the package cannot recognise."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(0)) / x.std(0)


def own_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), OwnNorm(), nn.Linear(3, 1))


def test_what_cannot_be_held_is_refused() -> None:
    with pytest.raises(UserError, match="norm is used more than once"):
        ModuleFunction(Twice(), POINTS, "frozen")
    assert ModuleFunction(Twice(), POINTS, "batch").num_outputs == 16
    own = seeded(own_norm)
    assert ModuleFunction(own, POINTS, "batch").num_outputs == 16
    for statistics in ("frozen", "running"):
        with pytest.raises(CoupledError, match="use --statistics batch"):
            ModuleFunction(own, POINTS, statistics)


def test_our_norms_and_torch_s_are_held_together() -> None:
    config = CoordinateMLPConfig(in_dim=3, out_dim=1, width=6, depth=2)
    module = seeded(lambda: nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), CoordinateMLP(config)))
    frozen = np.asarray(ntk(module, POINTS, statistics="frozen"))
    coupled = np.asarray(ntk(module, POINTS, statistics="batch"))
    assert np.abs(frozen - coupled).max() > 1e-3
    # With frozen statistics each point is on its own, so the kernel of half the points is a part of the
    # whole.
    function = ModuleFunction(module, POINTS, "frozen")
    assert torch.allclose(
        function._outputs(function.parameters, POINTS[:5]),
        function._outputs(function.parameters, POINTS)[:5],
    )


class OfInstances(nn.Module):
    """Instance norm: each point's features, in two channels, are normalised on their own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(2, 8), nn.Linear(8, 1)
        self.norm = nn.InstanceNorm1d(2, affine=True, track_running_stats=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.norm(self.inner(x).view(-1, 2, 4)).flatten(1))


@pytest.mark.parametrize("training", [True, False])
def test_instance_norms_have_each_point_s_statistics_or_the_running_ones(training: bool) -> None:
    module = seeded(OfInstances)
    module(torch.randn(50, 2))
    wants = {
        "batch": oracle(copy.deepcopy(module).double().train()),
        "frozen": oracle(copy.deepcopy(module).double().train()),
        "running": oracle(copy.deepcopy(module).double().eval()),
    }
    module.train(training)
    for statistics, want in wants.items():
        found = ntk(module, POINTS, statistics=statistics)  # type: ignore[arg-type]
        np.testing.assert_allclose(np.asarray(found), want, rtol=1e-8, atol=1e-10)


class Shares(nn.Module):
    """A module with one layer under two names, and another layer with the same weight."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.one, self.outer = nn.Linear(2, 4), nn.Linear(4, 4), nn.Linear(4, 1)
        self.same, self.tied = self.one, nn.Linear(4, 4, bias=False)
        self.tied.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.inner, self.one, self.same, self.tied):
            x = layer(x).tanh()
        return self.outer(x)


def test_shared_parameters_are_one_wherever_they_are_used() -> None:
    """torch's functional_call forgets the third place after a call, so that it cannot be the oracle."""
    module = seeded(Shares).double()
    outputs = module(POINTS).reshape(-1)
    rows = [torch.autograd.grad(y, list(module.parameters()), retain_graph=True) for y in outputs]
    jacobian = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
    found = ntk(module, POINTS)
    np.testing.assert_allclose(np.asarray(found), (jacobian @ jacobian.T).detach().numpy(), rtol=1e-8)


def test_wrappers_of_several_devices_are_looked_into() -> None:
    module = seeded(with_norms)
    np.testing.assert_array_equal(
        np.asarray(ntk(nn.DataParallel(module), POINTS)), np.asarray(ntk(module, POINTS))
    )


class ScalesItsInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x *= 3
        return self.layer(x)


@pytest.mark.parametrize("statistics", ["batch", "frozen"])
def test_points_stay_as_they_are_whatever_a_module_does_to_its_input(statistics: Statistics) -> None:
    points = POINTS.clone()
    found = ntk(seeded(ScalesItsInput), points, statistics=statistics)
    assert torch.equal(points, POINTS)
    np.testing.assert_allclose(np.asarray(found), np.asarray(1 + 9 * POINTS @ POINTS.T), rtol=1e-12)


class Fourier(nn.Module):
    """A module with frequencies in plain tensors and in a list of them."""

    def __init__(self) -> None:
        super().__init__()
        self.B, self.more, self.layer = torch.randn(2, 4), [torch.randn(2, 3)], nn.Linear(14, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x @ self.B, x @ self.more[0]]
        return self.layer(torch.cat([f(p) for p in parts for f in (torch.sin, torch.cos)], -1))


def test_plain_tensors_follow_the_precision() -> None:
    module = seeded(Fourier)
    twin = copy.deepcopy(module).double()
    twin.B, twin.more = twin.B.double(), [twin.more[0].double()]
    np.testing.assert_allclose(np.asarray(ntk(module, POINTS)), oracle(twin), rtol=1e-8)
    assert module.B.dtype == torch.float32


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 4), nn.Linear(4, 1, dtype=torch.cfloat)

    def forward(self, x: Tensor) -> Tensor:
        z = self.a(x)
        return self.b(torch.polar(torch.exp(-(z**2)), 3 * z)).real


class AsReal(nn.Module):
    """The module above, computed with real numbers alone."""

    def __init__(self, of: Complex) -> None:
        super().__init__()
        self.a = copy.deepcopy(of.a).double()
        weight = of.b.weight.detach().to(torch.complex128)
        self.real, self.imag = nn.Parameter(weight.real.clone()), nn.Parameter(weight.imag.clone())
        self.bias = nn.Parameter(of.b.bias.detach().to(torch.complex128).real.clone())

    def forward(self, x: Tensor) -> Tensor:
        z = self.a(x)
        size = torch.exp(-(z**2))
        return size * torch.cos(3 * z) @ self.real.T - size * torch.sin(3 * z) @ self.imag.T + self.bias


def test_complex_parameters_are_two_real_ones() -> None:
    module = seeded(Complex)
    assert isinstance(module, Complex)
    assert ModuleFunction(module, POINTS).num_parameters == 12 + 2 * 5
    np.testing.assert_allclose(np.asarray(ntk(module, POINTS)), oracle(AsReal(module)), rtol=1e-8)


def weight_norm_by_hooks() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates it, but many scripts have it
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(2, 8)), nn.ReLU(), nn.Linear(8, 1))


def weight_norm_by_parametrization() -> nn.Module:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(2, 8))
    return nn.Sequential(layer, nn.ReLU(), nn.Linear(8, 1))


def test_weight_norm_of_both_kinds_is_followed() -> None:
    kernels = [
        np.asarray(ntk(seeded(make), POINTS))
        for make in (weight_norm_by_hooks, weight_norm_by_parametrization)
    ]
    np.testing.assert_allclose(*kernels, rtol=1e-8)
    np.testing.assert_allclose(kernels[1], oracle(seeded(weight_norm_by_parametrization).double()), rtol=1e-8)


class Returns(nn.Module):
    def __init__(self, how: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.layer, self.how = nn.Linear(2, 1), how

    def forward(self, x: Tensor) -> object:
        return self.how(self.layer(x))


def test_one_tensor_in_a_container_is_the_output() -> None:
    plain = ModuleFunction(seeded(lambda: Returns(lambda y: y)), POINTS)
    for how in (lambda y: {"model_out": y}, lambda y: (y,), lambda y: [None, y]):
        function = ModuleFunction(seeded(lambda how=how: Returns(how)), POINTS)
        torch.testing.assert_close(function(function.parameters), plain(plain.parameters))


def test_lazy_modules_get_their_shapes_and_the_same_weights_each_time() -> None:
    module = nn.Sequential(nn.LazyLinear(4), nn.Tanh(), nn.LazyLinear(1))
    first, second = (ModuleFunction(module, POINTS) for _ in range(2))
    assert first.num_parameters == 12 + 5
    torch.testing.assert_close(first(first.parameters), second(second.parameters))


def test_lazy_norms_begin_with_fresh_running_statistics() -> None:
    module = nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d(), nn.LazyLinear(1))
    function = ModuleFunction(module, POINTS, "running")
    norm = function.module[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert torch.equal(norm.running_mean, torch.zeros(4).double()) and norm.num_batches_tracked == 0
    assert ModuleFunction(module, POINTS, "batch").num_outputs == 16


class Counts(nn.Module):
    """A layer whose output grows with each pass, which it counts in one of five ways."""

    times: Tensor | int

    def __init__(self, where: str, lazy: bool) -> None:
        super().__init__()
        self.layer = nn.LazyLinear(1) if lazy else nn.Linear(2, 1)
        self.where = where
        if where.startswith("buffer"):
            self.register_buffer("times", torch.ones(()))
        else:
            self.times = 1 if where == "attribute" else torch.ones(())

    def forward(self, x: Tensor) -> Tensor:
        if self.where.endswith("in place"):
            assert isinstance(self.times, Tensor)
            self.times += 1
        else:
            self.times = self.times + 1
        return self.times * self.layer(x)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("statistics", ["batch", "frozen", "running"])
@pytest.mark.parametrize(
    "where", ["buffer in place", "buffer set anew", "attribute", "tensor set anew", "tensor in place"]
)
def test_every_pass_begins_with_what_the_module_was_given_with(
    where: str, statistics: Statistics, lazy: bool
) -> None:
    """The kernel is that of the first pass, of 2 (w x + b): passes to set up and to check leave no trace."""
    module = seeded(lambda: Counts(where, lazy))
    for _ in range(2):
        found = np.asarray(ntk(module, POINTS, statistics=statistics))
        np.testing.assert_allclose(found, np.asarray(4 * (1 + POINTS @ POINTS.T)), rtol=1e-12)
    assert module.times == 1


MISTAKES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "casts": (lambda: nn.Sequential(Casts(), nn.Linear(2, 1)), "mixes precisions .*--single-precision"),
    "casts the output": (
        lambda: Returns(lambda y: y.float()),
        "casts to torch.float32 inside.*--single-precision",
    ),
    "indices": (lambda: nn.Sequential(nn.Embedding(9, 2), nn.Flatten()), "it must take real numbers"),
    "uncopied": (
        lambda: Returns(threading.Lock()),  # type: ignore[arg-type]
        "cannot be copied .*copy.deepcopy refuses",
    ),
    "other size": (lambda: nn.Linear(3, 1), r"16 points of 2 coordinates \(RuntimeError: .*--in-dim"),
    "script": (lambda: torch.jit.script(nn.Linear(2, 1)), "TorchScript"),
    "several": (lambda: Returns(lambda y: {"a": y, "b": y}), r"a dict of 2 tensors \(a, b\)"),
    "pair": (lambda: Returns(lambda y: (y, y)), "a tuple of 2 tensors"),
    "nothing": (lambda: Returns(lambda y: None), "returns NoneType"),
    "raises": (lambda: Returns(lambda y: 1 / 0), "ZeroDivisionError: division by zero"),
    "no parameters": (nn.Tanh, "no parameters that are learned"),
    "no values": (lambda: nn.Linear(2, 1, device="meta"), "device meta, without values"),
    "counts in a list": (lambda: CountsInAList(), "differs from call to call.*in buffers or attributes"),
    "not a number": (lambda: Returns(lambda y: y / 0 * 0), "output is not finite"),
}


class Casts(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.float()


class CountsInAList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.times = nn.Linear(2, 1), [1]

    def forward(self, x: Tensor) -> Tensor:
        self.times[0] += 1
        return self.times[0] * self.layer(x)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", list(MISTAKES))
@pytest.mark.parametrize("statistics", ["batch", "frozen"])
def test_mistakes_are_told_in_one_line(name: str, statistics: Statistics) -> None:
    make, message = MISTAKES[name]
    with pytest.raises(UserError, match=message) as caught:
        ModuleFunction(make(), POINTS, statistics)
    assert "\n" not in str(caught.value)
