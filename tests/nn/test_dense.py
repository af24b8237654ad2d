"""Layers block by block of samples equal torch's layers, forward and back, moments of the outputs too."""

from __future__ import annotations

import gc
import weakref
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import forward_ad

from bn_field_plugin.nn import dense
from bn_field_plugin.nn.activations import ACTIVATIONS
from bn_field_plugin.nn.dense import FINER, RELU, SINE, Activated
from tests.laws import cases
from tests.nn.cases import draw

BLOCK = 16
Layers = list[tuple[Tensor, Tensor]]

RELUS = Activated(RELU, 1.0)
# Of frequencies at which rounding is not amplified from layer to layer.
KNOWN = {"relu": RELUS, "sine": Activated(SINE, 1.0), "finer": Activated(FINER, 0.5)}


@pytest.fixture(autouse=True)
def few_samples_in_a_block(monkeypatch):
    """Make blocks so small that a few samples fill several."""
    monkeypatch.setattr(dense, "FEWEST_IN_BLOCK", BLOCK)
    monkeypatch.setattr(dense, "MOST_IN_BLOCK", BLOCK)
    monkeypatch.setattr(dense, "FEWEST_SAMPLES", BLOCK)
    if not dense.serves(torch.ones(BLOCK, 1), [torch.ones(1, 1), torch.ones(1)]):
        pytest.skip("this torch has no MKL, or numba does not work")


def layers(*widths: int, seed: int = 0) -> Layers:
    """Weights and biases that learn, for inputs and outputs of given widths."""
    sizes = zip(widths[1:], widths[:-1], strict=True)
    return [
        (
            (draw(c, d, seed=seed + index).float() / d**0.5).requires_grad_(),
            draw(c, seed=seed + 50 + index).float().requires_grad_(),
        )
        for index, (c, d) in enumerate(sizes)
    ]


def behind(activation: Activated, z: Tensor) -> Tensor:
    """The definitions of the activations."""
    if activation.kind == RELU:
        return F.relu(z)
    return torch.sin(activation.omega * (z.abs() + 1 if activation.kind == FINER else 1) * z)


def by_torch(x: Tensor, made: Layers, activation: Activated = RELUS) -> Tensor:
    """The definition."""
    for index, (weight, bias) in enumerate(made):
        x = F.linear(behind(activation, x) if index else x, weight, bias)
    return x


def network(x: Tensor, made: Layers, activation: Activated = RELUS) -> Tensor:
    return dense.network(x, made, activation)


def normed(x: Tensor, made: Layers, activation: Activated) -> Tensor:
    """Outputs of hidden layers, normalised by their own moments, as batch norm does it."""
    y, (mean, var, count) = dense.hidden_layers(x, made, activation)
    assert count == len(x)
    return (y - mean) / (var + 1e-3).sqrt()


def normed_by_torch(x: Tensor, made: Layers, activation: Activated) -> Tensor:
    y = behind(activation, by_torch(x, made, activation))
    return (y - y.mean(0)) / (y.var(0, correction=0) + 1e-3).sqrt()


def flat(made: Layers) -> list[Tensor]:
    return [part for layer in made for part in layer]


def doubled(made: Layers) -> Layers:
    return [tuple(part.detach().double().requires_grad_() for part in layer) for layer in made]


def results(
    made: Layers, x: Tensor, grad: Tensor, network=network, activation: Activated = RELUS
) -> list[Tensor]:
    """Outputs, then gradients of the samples and of all weights and biases."""
    leaf = x.clone().requires_grad_()
    y = network(leaf, made, activation)
    return [y.detach(), *torch.autograd.grad(y, [leaf, *flat(made)], grad)]


def close(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-4) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        size = max(1.0, float(other.abs().max()))
        torch.testing.assert_close(one.double(), other.double(), rtol=tolerance, atol=tolerance * size)


PAIRS = {"plain": (network, by_torch), "normed": (normed, normed_by_torch)}


@pytest.mark.parametrize("kept", [0, 2**28], ids=["evaluated again", "kept"])
@pytest.mark.parametrize("activation", KNOWN.values(), ids=KNOWN)
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
@cases(20)
@given(
    n=st.integers(BLOCK, 5 * BLOCK),
    widths=st.lists(st.integers(1, 12), min_size=2, max_size=5),
    seed=st.integers(0, 99),
)
def test_equal_to_torchs_layers_in_fp64(kept, activation, pair, n, widths, seed):
    (ours, theirs), made = pair, layers(*widths, seed=seed)
    x, grad = draw(n, widths[0], seed=seed).float(), draw(n, widths[-1], seed=seed + 1).float()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "KEPT_BYTES", kept)
        found = results(made, x, grad, ours, activation)
        with torch.no_grad():
            assert torch.equal(ours(x, made, activation), found[0])
    # A norm divides by deviations that may be small, and rounding with them.
    tolerance = 1e-4 if ours is network else 1e-3
    close(found, results(doubled(made), x.double(), grad.double(), theirs, activation), tolerance)


def test_the_activations_of_networks():
    for name, omega in {"relu": 1.0, "sine": 7.0, "finer": 7.0}.items():
        activation = ACTIVATIONS[name](**({} if name == "relu" else {"omega": omega}))
        known = dense.known([activation, activation])
        assert known is not None and known.omega == omega
        z = draw(50, 3)
        torch.testing.assert_close(known.apply(z), activation(z))
        torch.testing.assert_close(known.apply(z), behind(known, z))
    assert dense.known([ACTIVATIONS["gauss"]()]) is None


def test_activations_that_only_look_alike_are_not_known():
    class Shifted(ACTIVATIONS["sine"]):
        def forward(self, z: Tensor) -> Tensor:
            return super().forward(z) + 1

    learned = ACTIVATIONS["sine"]()
    learned.omega = nn.Parameter(torch.tensor(30.0))
    several = [ACTIVATIONS["sine"](omega=omega) for omega in (1.0, 2.0)]
    for activations in ([Shifted()], [learned], several, [nn.ReLU(), nn.Tanh()]):
        assert dense.known(activations) is None


@pytest.mark.parametrize("width", [200, 300])
def test_blocks_as_they_are_in_use(width, monkeypatch):
    monkeypatch.undo()
    made, x, grad = layers(5, width, 30, 3), draw(3000, 5).float(), draw(3000, 3, seed=1).float()
    assert dense.serves(x, flat(made))
    close(results(made, x, grad), results(doubled(made), x.double(), grad.double(), by_torch))


def test_hidden_activations_that_are_evaluated_again_are_the_same_bits(monkeypatch):
    made, x, grad = layers(3, 8, 9, 2), draw(3 * BLOCK + 5, 3).float(), draw(3 * BLOCK + 5, 2).float()
    expected = results(made, x, grad)
    monkeypatch.setattr(dense, "KEPT_BYTES", 0)
    assert all(torch.equal(*pair) for pair in zip(results(made, x, grad), expected, strict=True))


def test_the_same_bits_for_any_number_of_threads():
    made, x, grad = layers(3, 8, 8, 2), draw(9 * BLOCK + 5, 3).float(), draw(9 * BLOCK + 5, 2).float()
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(results(made, x, grad))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(*pair) for pair in zip(other, found[0], strict=True))


def test_matrices_whose_rows_are_apart():
    made = [(weight.T.contiguous().T, bias[::1]) for weight, bias in layers(4, 6, 2)]
    x, grad = draw(4, 2 * BLOCK).float().T, torch.ones(()).expand(2 * BLOCK, 2)
    leaf = x.detach().requires_grad_()
    found = torch.autograd.grad(network(leaf, made), leaf, grad)
    expected = torch.autograd.grad(by_torch(leaf, made), leaf, grad)
    close(list(found), list(expected))


@pytest.mark.parametrize("learning", ["x", "weights", "one bias"])
def test_gradients_of_some(learning):
    made, x = layers(3, 8, 2), draw(2 * BLOCK + 1, 3).float()
    wanted = {"x": [x], "weights": flat(made), "one bias": [made[0][1]]}[learning]
    for part in [x, *flat(made)]:
        part.requires_grad_(any(part is one for one in wanted))
    found = network(x, made)
    found.square().sum().backward()
    mine = [part.grad.clone() for part in wanted]
    assert all(part.grad is None for part in [x, *flat(made)] if not part.requires_grad)
    close(mine, list(torch.autograd.grad(by_torch(x, made).square().sum(), wanted)))


def test_no_gradients_where_nothing_learns():
    made = [(weight.detach(), bias.detach()) for weight, bias in layers(3, 8, 2)]
    x = draw(2 * BLOCK, 3).float()
    assert not network(x, made).requires_grad
    with torch.no_grad():
        assert not network(x.requires_grad_(), layers(3, 8, 2)).requires_grad


def second(network, made: Layers, x: Tensor) -> list[Tensor]:
    """Gradients of a loss of gradients, as an eikonal term has them."""
    leaf = x.clone().requires_grad_()
    wanted = [leaf, *flat(made)]
    first = torch.autograd.grad(network(leaf, made).pow(3).sum(), wanted, create_graph=True)
    return list(torch.autograd.grad(sum(part.square().sum() for part in first), wanted, allow_unused=True))


@pytest.mark.parametrize("activation", KNOWN.values(), ids=KNOWN)
@pytest.mark.parametrize("widths", [(3, 2), (3, 6, 2), (3, 6, 5, 2)])
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_gradients_that_are_differentiated_again(pair, widths, activation):
    ours, theirs = (partial(one, activation=activation) for one in pair)
    made, x = layers(*widths), draw(2 * BLOCK + 3, 3).float()
    found, expected = second(ours, made, x), second(theirs, doubled(made), x.double())
    # Beside the largest of all: through a norm, those of the last bias are differences that vanish.
    close(*([torch.cat([part.flatten() for part in parts])] for parts in (found, expected)), tolerance=1e-3)


def test_many_gradients_at_once():
    """As `torch.autograd.functional.jacobian` takes them with `vectorize`."""
    made, x = layers(3, 6, 2), draw(BLOCK, 3).float().requires_grad_()
    grads = draw(4, BLOCK, 2).float()
    wanted = [x, *flat(made)]
    found, expected = (
        torch.autograd.grad(network(x, made), wanted, grads, is_grads_batched=True)
        for network in (network, by_torch)
    )
    close(list(found), list(expected))
    assert not any(one.requires_grad for one in found)


def test_any_number_of_backward_passes():
    made, x = layers(3, 6, 5, 2), draw(2 * BLOCK, 3).float()
    loss = network(x, made).square().sum()
    first = torch.autograd.grad(loss, flat(made), retain_graph=True)
    again = torch.autograd.grad(loss, flat(made))
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))


@pytest.mark.parametrize(
    ("kept", "elements"),
    [(0, 0), (4 * 2 * BLOCK * 2 * 6 - 1, 0), (2**28, 2 * 2 * BLOCK * 6)],
)
def test_what_a_backward_pass_needs_is_kept_till_then(kept, elements, monkeypatch):
    monkeypatch.setattr(dense, "KEPT_BYTES", kept)
    saved: list[weakref.ref[Tensor]] = []
    sizes = []

    def note(tensor: Tensor) -> Tensor:
        mine = tensor.detach()
        saved.append(weakref.ref(mine))
        sizes.append(mine.numel())
        return mine

    made, x = layers(3, 6, 5, 40), draw(2 * BLOCK, 3).float()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = network(x, made).sum()
    numbers = sum(part.numel() for part in flat(made))
    assert sizes == [x.numel(), numbers, elements, 0]  # 0: no moments
    loss.backward()
    gc.collect()
    assert all(reference() is None for reference in saved)


def test_samples_that_change_before_the_backward_pass_are_told():
    made, x = layers(3, 6, 2), draw(BLOCK, 3).float()
    loss = network(x, made).sum()
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_numbers_that_are_not_finite_come_out_as_torchs():
    made, x = layers(3, 6, 2), draw(BLOCK, 3).float()
    x[2, 1], x[5, 0], x[7, 2] = torch.nan, torch.inf, -torch.inf
    with torch.no_grad():
        torch.testing.assert_close(network(x, made), by_torch(x, made), equal_nan=True)


def test_what_it_serves(monkeypatch):
    x, made = draw(BLOCK, 3).float(), layers(3, 6, 2)
    assert dense.serves(x, flat(made))
    assert not dense.serves(x[1:], flat(made))
    assert not dense.serves(x[:0], flat(made))
    assert not dense.serves(x.double(), flat(made))
    assert not dense.serves(x, flat(doubled(made)))
    assert not dense.serves(x.to("meta"), flat(made))
    with torch.autocast("cpu"):
        assert not dense.serves(x, flat(made))
    with forward_ad.dual_level():
        (weight, bias), last = made
        assert not dense.serves(x, [forward_ad.make_dual(weight, weight), bias, *last])
    asked = []
    torch.func.vmap(lambda one: asked.append(dense.serves(one, flat(made))) or one)(x[None])
    assert asked == [False]
    monkeypatch.setattr(dense, "_kernels", lambda: None)
    assert not dense.serves(x, flat(made))


def test_gradients_after_a_module_that_changes_its_weights_in_place():
    """An optimizer's step between two passes: each pass has the weights of its own time."""
    linears = nn.ModuleList([nn.Linear(3, 6), nn.Linear(6, 2)])
    made = [(linear.weight, linear.bias) for linear in linears]
    x = draw(BLOCK, 3).float()
    loss = network(x, made).square().sum()
    expected = torch.autograd.grad(by_torch(x, made).square().sum(), flat(made))
    with torch.no_grad():
        for parameter in linears.parameters():
            parameter.mul_(2)
    close(list(torch.autograd.grad(loss, flat(made))), list(expected))
