"""Which statistics are read and which change; calibration makes the running ones exact."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import replace_all_batch_norm_modules_
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.data import DataLoader, TensorDataset

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import (
    BatchNorm,
    CoordinateMLP,
    CoordinateMLPConfig,
    LayerNorm,
    StatisticsMode,
    batch_statistics,
    calibrate,
    fold_norm,
    freeze_statistics,
    frozen_statistics,
    running_norms,
    with_own_statistics,
)
from bn_field_plugin.nn.statistics import held_statistics
from tests.laws import cases
from tests.nn.cases import RUNNING, combinations, coordinates, draw, network, statistics, unchanged, vary

CONTEXTS = {"frozen": frozen_statistics, "batch": batch_statistics}


def modes(module: nn.Module) -> set[StatisticsMode]:
    return {norm.mode for norm in running_norms(module)}


def normalizes_with_batch(mlp: nn.Module, x: Tensor) -> bool:
    """Whether the output of a sample depends on the other samples."""
    return not torch.allclose(mlp(x)[:10], mlp(torch.cat([x[:10], 2 * x[10:]]))[:10], rtol=1e-9, atol=1e-9)


# Which statistics, when.


@pytest.mark.parametrize("placement", ["before", "after"])
@pytest.mark.parametrize("norm", RUNNING)
class TestModes:
    """Training passes with gradients use batch statistics and update the running ones; others read them."""

    def test_a_training_pass_uses_the_batch_and_updates(self, norm, placement):
        mlp = network(norm=norm, placement=placement)
        before = statistics(mlp)
        mlp(coordinates(20, 3))
        assert not unchanged(mlp, before)
        assert all(layer.norm.num_batches_tracked == 1 for layer in mlp.layers)
        assert normalizes_with_batch(mlp, coordinates(20, 3))

    @pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
    def test_a_pass_without_gradients_reads_and_changes_nothing(self, norm, placement, guard):
        mlp = network(norm=norm, placement=placement)
        x, before = coordinates(20, 3), statistics(mlp)
        with guard():
            y = mlp.train()(x)
            assert not normalizes_with_batch(mlp, x)
            assert torch.equal(y, mlp.eval()(x))
        assert unchanged(mlp, before)

    def test_evaluation_reads_and_changes_nothing(self, norm, placement):
        mlp = network(norm=norm, placement=placement).eval()
        x, before = coordinates(20, 3), statistics(mlp)
        mlp(x).sum().backward()
        assert not normalizes_with_batch(mlp, x)
        assert unchanged(mlp, before)

    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("gradients", [True, False])
    def test_frozen_reads_and_changes_nothing(self, norm, placement, training, gradients):
        mlp = network(norm=norm, placement=placement).train(training)
        x, before = coordinates(20, 3), statistics(mlp)
        with frozen_statistics(mlp), torch.set_grad_enabled(gradients):
            y = mlp(x)
            assert not normalizes_with_batch(mlp, x)
        assert unchanged(mlp, before)
        torch.testing.assert_close(y, mlp.eval()(x), rtol=1e-11, atol=1e-12)

    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("gradients", [True, False])
    def test_batch_uses_the_batch_and_changes_nothing(self, norm, placement, training, gradients):
        mlp = network(norm=norm, placement=placement).train(training)
        x, before = coordinates(20, 3), statistics(mlp)
        with batch_statistics(mlp), torch.set_grad_enabled(gradients):
            y = mlp(x)
            assert normalizes_with_batch(mlp, x)
        assert unchanged(mlp, before)
        torch.testing.assert_close(y, mlp.train()(x), rtol=1e-11, atol=1e-12)

    @pytest.mark.parametrize("mode", ["frozen", "batch"])
    def test_gradients_by_the_input_leak_between_samples_only_through_the_batch(self, norm, placement, mode):
        mlp = network(norm=norm, placement=placement, activation="sine")
        with CONTEXTS[mode](mlp):
            jacobian = torch.autograd.functional.jacobian(lambda x: mlp(x).sum(-1), coordinates(6, 3))
        norms = jacobian.norm(dim=-1)
        assert (norms.diagonal() > 0).all()
        others = norms - torch.diag(norms.diagonal())
        assert (others.max() > 1e-3) == (mode == "batch")
        if mode == "frozen":
            assert not others.any()

    def test_a_frozen_pass_may_be_derived_after_the_statistics_moved_on(self, norm, placement):
        """Normals do this: a frozen pass, the main pass, which updates in place, then backward."""
        mlp = network(norm=norm, placement=placement, activation="sine")
        x = coordinates(20, 3).requires_grad_()
        with frozen_statistics(mlp):
            y = mlp(x)
            (normals,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        expected = torch.autograd.grad(
            y.sum() + normals.square().sum(), list(mlp.parameters()), retain_graph=True
        )
        main = mlp(coordinates(20, 3, seed=2))
        actual = torch.autograd.grad(y.sum() + normals.square().sum(), list(mlp.parameters()))
        assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))
        main.sum().backward()


def test_contexts_nest_and_the_inner_one_rules():
    mlp = network(norm="batch")
    with frozen_statistics(mlp):
        assert modes(mlp) == {StatisticsMode.FROZEN}
        with batch_statistics(mlp):
            assert modes(mlp) == {StatisticsMode.BATCH}
        assert modes(mlp) == {StatisticsMode.FROZEN}
    assert modes(mlp) == {StatisticsMode.AUTO}


@pytest.mark.parametrize("context", CONTEXTS)
def test_an_exception_restores_the_modes(context):
    mlp = network(norm="batch")
    with pytest.raises(KeyError), CONTEXTS[context](mlp):
        raise KeyError
    assert modes(mlp) == {StatisticsMode.AUTO}


def test_a_context_touches_the_given_module_only():
    both = nn.ModuleList([network(norm="batch"), network(norm="batch")])
    with frozen_statistics(both[0]):
        assert modes(both[0]) == {StatisticsMode.FROZEN}
        assert modes(both[1]) == {StatisticsMode.AUTO}


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("norm", ["none", "layer"])
def test_contexts_and_calibration_change_nothing_without_running_statistics(norm, context):
    mlp, x = network(norm=norm), coordinates(20, 3)
    assert running_norms(mlp) == []
    expected = mlp(x)
    with CONTEXTS[context](mlp):
        assert torch.equal(mlp(x), expected)
    assert calibrate(mlp, [x / 2]) == 0
    assert torch.equal(mlp(x), expected)


# Freezing for good.


@pytest.mark.parametrize("placement", ["before", "after"])
@pytest.mark.parametrize("norm", RUNNING)
def test_frozen_for_good_it_trains_with_the_running_statistics(norm, placement):
    """All passes then read them, and all parameters still learn, those of the norms too."""
    mlp, x = network(norm=norm, placement=placement), coordinates(20, 3)
    calibrate(mlp, [x])
    freeze_statistics(mlp)
    before, weights = statistics(mlp), [p.detach().clone() for p in mlp.parameters()]
    with frozen_statistics(mlp):
        expected = mlp.eval()(x)
    optimizer = torch.optim.SGD(mlp.parameters(), lr=0.01)
    torch.testing.assert_close(mlp.train()(x), expected, rtol=1e-11, atol=1e-12)
    for _ in range(3):
        optimizer.zero_grad()
        mlp(x).square().sum().backward()
        optimizer.step()
    assert not any(torch.equal(*pair) for pair in zip(mlp.parameters(), weights, strict=True))
    assert unchanged(mlp, before)
    assert not normalizes_with_batch(mlp, x)


def test_frozen_for_good_contexts_and_calibration_work_and_restore():
    mlp, x = network(norm="batch"), coordinates(20, 3)
    freeze_statistics(mlp)
    with batch_statistics(mlp):
        assert normalizes_with_batch(mlp, x)
    with frozen_statistics(mlp), held_statistics(mlp) as needs_whole:
        assert not needs_whole
    assert copy.deepcopy(mlp).layers[0].norm.mode is StatisticsMode.FROZEN
    before = statistics(mlp)
    assert calibrate(mlp, [x]) == 3
    assert not unchanged(mlp, before)
    assert modes(mlp) == {StatisticsMode.FROZEN}


def test_freezing_touches_the_given_module_only_and_needs_no_norms():
    both = nn.ModuleList([network(norm="batch"), network(norm="batch"), network(norm="layer")])
    freeze_statistics(both[2])
    freeze_statistics(both[0])
    assert modes(both[0]) == {StatisticsMode.FROZEN}
    assert modes(both[1]) == {StatisticsMode.AUTO}


# Calibration.


@pytest.mark.parametrize("options", combinations(RUNNING))
def test_calibrated_evaluation_equals_the_batch_statistics_of_the_joined_batch(options):
    """Calibration goes layer by layer, because a layer's inputs depend on the statistics before it."""
    mlp = network(**options, depth=4)
    x = coordinates(101, 3)
    with batch_statistics(mlp):
        expected = mlp(x)
    assert calibrate(mlp, x.split(17)) == 4
    close = {"rtol": 1e-9, "atol": 1e-10}
    torch.testing.assert_close(mlp.eval()(x), expected, **close)
    with torch.no_grad():
        torch.testing.assert_close(mlp(x), expected.detach(), **close)
    torch.testing.assert_close(fold_norm(mlp)(x), expected, **close)


@cases(25, derandomize=True)
@given(
    norm=st.sampled_from(RUNNING),
    placement=st.sampled_from(["before", "after"]),
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(lambda sizes: sum(sizes) > 1),
    offset=st.sampled_from([0.0, 1e4]),
)
def test_calibration_does_not_depend_on_the_split(norm, placement, sizes, offset):
    whole, split = (network(norm=norm, placement=placement) for _ in range(2))
    x = coordinates(sum(sizes), 3) + offset
    calibrate(whole, [x])
    calibrate(split, x.split(sizes))
    for a, b in zip(statistics(split), statistics(whole), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12 * (1 + offset))


@pytest.mark.parametrize("norm", RUNNING)
def test_calibration_does_not_depend_on_the_order(norm):
    a, b = (network(norm=norm) for _ in range(2))
    batches = list(coordinates(101, 3).split(17))
    calibrate(a, batches)
    calibrate(b, reversed(batches))
    for one, other in zip(statistics(a), statistics(b), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("norm", RUNNING)
def test_moments_are_merged_in_fp64_whatever_the_network(norm):
    """In an fp32 network, many batches far from zero: a running fp32 sum would lose digits."""
    mlp = network(norm=norm, depth=1, dtype=torch.float32)
    x = coordinates(20_000, 3, dtype=torch.float32) + 50
    calibrate(mlp, x.split(10))
    with torch.no_grad():
        z = mlp.layers[0].linear(x).double()
    z = z.reshape(-1, 1) if norm == "global" else z
    torch.testing.assert_close(mlp.layers[0].norm.running_mean.double(), z.mean(0), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        mlp.layers[0].norm.running_var.double(), z.var(0, correction=0), rtol=1e-5, atol=1e-8
    )


def average_in_one_pass(mlp: nn.Module, batches: list[Tensor]) -> None:
    """The usual recipe: training passes over the batches, averaging the statistics of each."""
    for norm in running_norms(mlp):
        norm.momentum = None
        norm.num_batches_tracked.zero_()
    for batch in batches:
        mlp.train()(batch)


@pytest.mark.parametrize("norm", ["batch", "global"])
def test_one_pass_over_several_chunks_is_biased(norm):
    """So calibration goes layer by layer: chunks of a sorted set differ, as those of an image do."""
    x = coordinates(120, 3)
    batches = list(x[x[:, 0].argsort()].split(20))
    exact, naive = (network(norm=norm) for _ in range(2))
    with batch_statistics(exact):
        expected = exact(x)
    calibrate(exact, batches)
    average_in_one_pass(naive, batches)
    assert (exact.eval()(x) - expected).abs().max() < 1e-9
    assert (naive.eval()(x) - expected).abs().max() > 1e-2


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", RUNNING)
def test_calibration_changes_statistics_and_nothing_else(norm, training):
    """It changes neither the mode, nor parameters, nor the count of batches for cumulative averages."""
    mlp = network(norm=norm).train(training)
    mlp.layers[0].norm.num_batches_tracked.fill_(7)
    parameters = [p.clone() for p in mlp.parameters()]
    before = statistics(mlp)
    calibrate(mlp, coordinates(101, 3).split(20))
    assert not unchanged(mlp, before)
    assert mlp.training == training
    assert modes(mlp) == {StatisticsMode.AUTO}
    assert [layer.norm.num_batches_tracked.item() for layer in mlp.layers] == [7, 0, 0]
    assert all(torch.equal(a, b) for a, b in zip(mlp.parameters(), parameters, strict=True))
    assert all(p.grad is None for p in mlp.parameters())
    after = statistics(mlp)
    assert calibrate(mlp, coordinates(101, 3).split(20)) == 3
    assert unchanged(mlp, after), "calibrating twice is calibrating once"


@pytest.mark.parametrize("norm", RUNNING)
def test_calibration_forgets_the_one_before(norm):
    """At each checkpoint weights and samples are new, and no old statistics may remain."""
    mlp = network(norm=norm)
    calibrate(mlp, coordinates(101, 3).split(20))
    with torch.no_grad():
        for parameter in mlp.parameters():
            parameter.add_(0.1)
    x = 0.3 * coordinates(70, 3, seed=6)
    with batch_statistics(mlp):
        expected = mlp(x)
    calibrate(mlp, x.split(20))
    torch.testing.assert_close(mlp.eval()(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("norm", RUNNING)
def test_training_goes_on_from_calibrated_statistics(norm):
    mlp = network(norm=norm)
    calibrate(mlp, coordinates(101, 3).split(20))
    calibrated = mlp.layers[0].norm.running_mean.clone()
    z = mlp.layers[0].linear(coordinates(30, 3, seed=3))
    z = z.reshape(-1, 1) if norm == "global" else z
    mlp(coordinates(30, 3, seed=3))
    torch.testing.assert_close(mlp.layers[0].norm.running_mean, 0.9 * calibrated + 0.1 * z.mean(0).detach())


class Field(nn.Module):
    """Two networks in a row, as in a radiance field, and one that is never called."""

    def __init__(self, norm: str) -> None:
        super().__init__()
        self.density = network(norm=norm)
        self.color = network(norm=norm, in_dim=5, seed=3)
        self.unused = network(norm=norm, seed=5)

    def query(self, positions: Tensor, directions: Tensor) -> Tensor:
        return self.color(torch.cat([self.density(positions), directions], -1))


@pytest.mark.parametrize("norm", RUNNING)
def test_nested_modules_are_calibrated_through_a_forward_of_ones_own(norm):
    field = Field(norm)
    positions, directions = coordinates(12, 5, 3), coordinates(12, 5, 3, seed=1)
    unused = statistics(field.unused)
    with batch_statistics(field):
        expected = field.query(positions, directions)
    batches = ({"x": x, "d": d} for x, d in zip(positions.split(5), directions.split(5), strict=True))
    assert calibrate(field, batches, lambda batch: field.query(batch["x"], batch["d"])) == 6
    torch.testing.assert_close(field.eval().query(positions, directions), expected, rtol=1e-9, atol=1e-9)
    assert unchanged(field.unused, unused), "a norm that no batch reached lost its statistics"


@pytest.mark.parametrize("norm", RUNNING)
def test_without_batches_or_samples_calibration_changes_nothing(norm):
    mlp = network(norm=norm)
    before = statistics(mlp)
    assert calibrate(mlp, []) == 0
    assert calibrate(mlp, [torch.zeros(0, 3, dtype=torch.float64)]) == 0
    assert unchanged(mlp, before)


@pytest.mark.parametrize("norm", RUNNING)
def test_one_sample_may_calibrate(norm):
    """Batches of one sample each are as good as any other split."""
    a, b = (network(norm=norm) for _ in range(2))
    x = coordinates(9, 3)
    calibrate(a, x.split(1))
    calibrate(b, [x])
    for one, other in zip(statistics(a), statistics(b), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("norm", RUNNING)
def test_a_non_finite_sample_leaves_the_statistics(norm):
    """No norm counts as calibrated, and the warning names the batch, at the line of the caller."""
    mlp = network(norm=norm)
    before = statistics(mlp)
    x = coordinates(40, 3)
    x[13, 1] = float("inf")
    message = r"batch 2 gives values that are not finite \(of 4 batches\), so some norms keep .* \(3\)"
    with pytest.warns(UserWarning, match=message) as caught:
        assert calibrate(mlp, x.split(10)) == 0
    assert caught[0].filename == __file__
    assert unchanged(mlp, before)


def test_norms_before_a_layer_that_is_not_finite_are_calibrated():
    mlp = network(norm="batch")
    with torch.no_grad():
        mlp.layers[1].linear.weight[0, 0] = float("nan")
    with pytest.warns(UserWarning, match=r"batch 1 gives .* keep the statistics they had \(2\)"):
        assert calibrate(mlp, [coordinates(40, 3)]) == 1
    assert mlp.layers[0].norm.running_mean.abs().max() > 0


def test_an_exception_restores_the_modes_and_leaves_nothing_collected():
    mlp = network(norm="batch")
    before = statistics(mlp)
    calls = 0

    def forward(batch: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyError
        return mlp(batch)

    x = coordinates(40, 3)
    with pytest.raises(KeyError):
        calibrate(mlp, x.split(10), forward)
    assert modes(mlp) == {StatisticsMode.AUTO}
    assert unchanged(mlp, before)
    twin = network(norm="batch")
    for module in (mlp, twin):
        calibrate(module, x.split(10))
    assert unchanged(mlp, statistics(twin)), "samples of the broken calibration were kept"


def test_calibration_within_a_context_ends_in_that_context():
    mlp = network(norm="batch")
    with frozen_statistics(mlp):
        calibrate(mlp, [coordinates(40, 3)])
        assert modes(mlp) == {StatisticsMode.FROZEN}


def test_norms_of_any_module_are_found_and_calibrated():
    stack = vary(
        nn.Sequential(nn.Linear(3, 4), BatchNorm(4), LayerNorm(4), nn.Sequential(BatchNorm(4)))
    ).double()
    assert running_norms(stack) == [stack[1], stack[3][0]]
    x = draw(50, 3)
    with batch_statistics(stack):
        expected = stack(x)
    assert calibrate(stack, x.split(9)) == 2
    torch.testing.assert_close(stack.eval()(x), expected, rtol=1e-9, atol=1e-9)


# Two sets of statistics on one set of parameters.


@pytest.mark.parametrize("norm", ["none", "layer", *RUNNING])
def test_a_twin_shares_every_parameter_and_no_buffer(norm):
    mlp = network(norm=norm, encoding="gaussian")
    twin = with_own_statistics(mlp)
    assert type(twin) is type(mlp)
    parameters, theirs = dict(mlp.named_parameters()), dict(twin.named_parameters())
    assert parameters.keys() == theirs.keys()
    assert all(theirs[name] is parameter for name, parameter in parameters.items())
    buffers, copies = dict(mlp.named_buffers()), dict(twin.named_buffers())
    assert buffers.keys() == copies.keys()
    for name, buffer in buffers.items():
        assert torch.equal(copies[name], buffer)
        assert copies[name].data_ptr() != buffer.data_ptr()
    assert torch.equal(twin.eval()(coordinates(7, 3)), mlp.eval()(coordinates(7, 3)))


@pytest.mark.parametrize("norm", RUNNING)
def test_twins_train_one_network_and_keep_what_each_has_seen(norm):
    """Gradients of both add up; statistics are those of two copies that share nothing."""
    x, y = coordinates(30, 3), 0.2 * coordinates(40, 3, seed=1) + 0.3
    mlp, one, other = (network(norm=norm) for _ in range(3))
    twin = with_own_statistics(mlp)
    (twin(x).square().mean() + mlp(y).square().mean()).backward()
    (one(x).square().mean() + other(y).square().mean()).backward()
    assert unchanged(twin, statistics(one))
    assert unchanged(mlp, statistics(other))
    for shared, a, b in zip(mlp.parameters(), one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(shared.grad, a.grad + b.grad)


@pytest.mark.parametrize("norm", RUNNING)
def test_twins_in_one_model_are_calibrated_each_on_its_own_inputs(norm):
    """The second one's inputs depend on the first one, as fine samples depend on coarse weights."""
    fine = network(norm=norm, out_dim=3)
    model = nn.ModuleDict({"coarse": with_own_statistics(fine), "fine": fine}).eval()
    batches = [coordinates(size, 3, seed=size) for size in (20, 3, 11)]

    def forward(x):
        return model["fine"](model["coarse"](x) / 4)

    assert calibrate(model, batches, forward) == 2 * len(running_norms(fine))
    joined = torch.cat(batches)
    with batch_statistics(model):
        expected = forward(joined)
    torch.testing.assert_close(forward(joined), expected, rtol=1e-9, atol=1e-9)
    assert not unchanged(model["coarse"], statistics(fine))


def test_twins_go_to_another_dtype_and_through_a_state_together():
    def pair(seed):
        mlp = network(norm="batch", seed=seed)
        return nn.ModuleList([with_own_statistics(mlp), vary(mlp, seed=seed)])

    model = pair(5).float()
    assert all(a is b for a, b in zip(model[0].parameters(), model[1].parameters(), strict=True))
    assert len(list(model.parameters())) == len(list(model[1].parameters()))
    other = pair(6).float()
    other.load_state_dict(model.state_dict())
    x = coordinates(9, 3, dtype=torch.float32)
    for mine, theirs in zip(model.eval(), other.eval(), strict=True):
        assert torch.equal(mine(x), theirs(x))


def test_calibration_takes_what_update_bn_takes():
    x = draw(64, 2).float()
    own, other = (CoordinateMLP(CoordinateMLPConfig(in_dim=2, out_dim=1, width=4, depth=2)) for _ in range(2))
    other.load_state_dict(own.state_dict())
    loader = DataLoader(TensorDataset(x, x[:, :1]), batch_size=16)
    assert calibrate(own, loader) == calibrate(other, list(x.split(16))) == 2
    for a, b in zip(own.buffers(), other.buffers(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", ["dict", "ndarray", "tuple"])
def test_batches_of_no_tensors_are_one_line(kind):
    x = draw(8, 2).float()
    mlp = CoordinateMLP(CoordinateMLPConfig(in_dim=2, out_dim=1, width=4, depth=2))
    batch = {"dict": {"x": x}, "ndarray": x.numpy(), "tuple": ((x, x), x)}[kind]
    with pytest.raises(UserError, match=f"begins with a {kind}.*forward="):
        calibrate(mlp, [batch])
    assert modes(mlp) == {StatisticsMode.AUTO}
    assert calibrate(mlp, [{"x": x}], lambda batch: mlp(batch["x"])) == 2


def with_torch_norms(mlp: CoordinateMLP) -> nn.Sequential:
    """A network with the same weights, of torch's own modules."""
    parts: list[nn.Module] = []
    for layer in mlp.hidden_layers:
        norm = nn.BatchNorm1d(layer.norm.num_features, layer.norm.eps, layer.norm.momentum).to(draw(1))
        norm.load_state_dict(layer.norm.state_dict())
        parts += [layer.linear, norm, nn.ReLU()]
    return copy.deepcopy(nn.Sequential(*parts, mlp.output))


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("training", [True, False])
def test_update_bn_updates_as_it_does_torch_s_norms(momentum, training):
    mlp = network(norm="batch", momentum=momentum).train(training)
    twin = with_torch_norms(mlp).train(training)
    loader = [(x, x) for x in coordinates(64, 3).split(16)]
    update_bn(loader, mlp)
    update_bn(loader, twin)
    found, wanted = ([b for name, b in m.named_buffers()] for m in (mlp, twin))
    torch.testing.assert_close(found, wanted)
    before, x = statistics(mlp), coordinates(40, 3, seed=1)
    with torch.no_grad():
        mlp.train()(x)
    assert unchanged(mlp, before)  # without update_bn, passes without gradients update nothing
    torch.testing.assert_close(mlp.eval()(x), twin.eval()(x))
    mlp.train()(x), twin.train()(x)
    torch.testing.assert_close(statistics(mlp), [b for name, b in twin.named_buffers()])


@pytest.mark.parametrize("norm", RUNNING)
@pytest.mark.parametrize("placement", ["before", "after"])
def test_update_bn_serves_averaged_weights_and_all_norms(norm, placement):
    """All batches are equal, so means over batches are the statistics of a training pass."""
    mlp = network(norm=norm, placement=placement)
    averaged = AveragedModel(mlp)
    x = coordinates(30, 3)
    for _ in range(2):
        mlp(x)  # the original's statistics change
        averaged.update_parameters(mlp)
    own = statistics(mlp)
    update_bn([x, x], averaged)
    assert unchanged(mlp, own)
    after = averaged.module.train()(x)
    torch.testing.assert_close(averaged.module.eval()(x), after, rtol=0.1, atol=0.1)  # over n, or n - 1
    assert [n.num_batches_tracked.item() for n in running_norms(averaged.module)] == [3] * 3


def test_torch_s_tools_leave_the_norms_in_place():
    mlp = network(norm="batch")
    x = coordinates(20, 3)
    before = mlp.eval()(x)
    tools = (nn.SyncBatchNorm.convert_sync_batchnorm, replace_all_batch_norm_modules_)
    for tool in tools:
        found = tool(copy.deepcopy(mlp))
        assert len(running_norms(found)) == 3
        assert torch.equal(found.eval()(x), before)
    assert repr(mlp.hidden_layers[0].norm) == "BatchNorm(8, eps=1e-05)"
