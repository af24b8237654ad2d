"""Muon equals the iteration by a singular value decomposition, and torch's own Muon."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn.muon import QUINTIC, Muon, orthogonalize
from tests.laws import cases

SHAPES = [(6, 6), (8, 5), (5, 8), (1, 7)]


def orthogonalized_by_svd(matrix: torch.Tensor, steps: int) -> torch.Tensor:
    """The iteration by its meaning: a polynomial of the singular values, with the vectors unchanged."""
    a, b, c = QUINTIC
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    s = s / s.square().sum().sqrt()
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    return (u * s) @ vh


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("steps", [1, 5])
def test_iteration_equals_a_polynomial_of_the_singular_values(
    shape: tuple[int, int], steps: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(4, *shape, dtype=dtype)
    expected = torch.stack([orthogonalized_by_svd(matrix, steps) for matrix in matrices])
    torch.testing.assert_close(orthogonalize(matrices, steps), expected, rtol=1e-9, atol=1e-9)


@cases(30)
@given(st.integers(0, 2**31), st.sampled_from(SHAPES), st.floats(1e-3, 1e3))
def test_singular_values_come_near_one_at_any_scale(seed: int, shape: tuple[int, int], scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows, columns = shape
    u, _ = torch.linalg.qr(torch.randn(rows, rows, generator=generator, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(columns, columns, generator=generator, dtype=torch.float64))
    values = torch.rand(min(shape), generator=generator, dtype=torch.float64) * 0.9 + 0.1
    matrix = scale * (u[:, : len(values)] * values) @ v[: len(values)]
    singular = torch.linalg.svdvals(orthogonalize(matrix[None])[0])
    assert 0.65 < singular.min() and singular.max() < 1.25


@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16"])
def test_a_step_turns_with_complex_matrices(precision: str) -> None:
    """A complex matrix and its gradient times a phase: the step is turned alike, so both parts take part."""
    torch.manual_seed(2)
    start, grad = torch.randn(2, 5, 7, dtype=torch.complex64).unbind()
    phase = torch.tensor(0.6 + 0.8j)
    ends = []
    for factor in (torch.tensor(1 + 0j), phase):
        matrix = torch.nn.Parameter(start * factor)
        optimizer = Muon([matrix], lr=0.1, weight_decay=0.0, precision=precision)  # type: ignore[arg-type]
        matrix.grad = grad * factor
        optimizer.step()
        ends.append(matrix.detach())
    assert (ends[0] - start).abs().max() > 0.01
    torch.testing.assert_close(ends[1], ends[0] * phase, rtol=1e-4, atol=1e-5)


def test_a_zero_matrix_stays_zero() -> None:
    assert torch.equal(orthogonalize(torch.zeros(2, 4, 4)), torch.zeros(2, 4, 4))


@pytest.mark.parametrize("adjust_lr_fn", ["match_rms_adamw", "original"])
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.01), ("float32", 0.03)])
def test_steps_equal_those_of_torch(
    adjust_lr_fn: str, nesterov: bool, precision: str, tolerance: float
) -> None:
    """Equal after several steps on several matrices, to bfloat16, in which torch iterates."""
    torch.manual_seed(1)
    starts = [torch.randn(shape) for shape in [(16, 16), (16, 16), (16, 8), (8, 16)]]
    options = {
        "lr": 0.05,
        "weight_decay": 0.1,
        "momentum": 0.9,
        "nesterov": nesterov,
        "adjust_lr_fn": adjust_lr_fn,
    }
    ours = [torch.nn.Parameter(start.clone()) for start in starts]
    theirs = [torch.nn.Parameter(start.clone()) for start in starts]
    optimizer, oracle = Muon(ours, precision=precision, **options), torch.optim.Muon(theirs, **options)
    for _ in range(4):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = q.grad = torch.randn_like(p)
        optimizer.step()
        oracle.step()
    for p, q, start in zip(ours, theirs, starts, strict=True):
        assert (p - q).norm() < tolerance * (q - start).norm()
        torch.testing.assert_close(
            optimizer.state[p]["momentum_buffer"], oracle.state[q]["momentum_buffer"], rtol=1e-5, atol=1e-6
        )


def test_a_parameter_without_gradient_stays_and_gets_no_state() -> None:
    frozen, moving = torch.nn.Parameter(torch.ones(3, 3)), torch.nn.Parameter(torch.eye(3))
    optimizer = Muon([frozen, moving], lr=0.1)
    moving.grad = torch.randn(3, 3)
    optimizer.step()
    assert torch.equal(frozen, torch.ones(3, 3)) and frozen not in optimizer.state
    assert not torch.equal(moving, torch.eye(3))


def test_step_with_rms_of_adam_has_that_size() -> None:
    """Steps have a root mean square of 0.2 to 0.4 times the learning rate, as Adam's have."""
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.zeros(64, 64))
    parameter.grad = torch.randn(64, 64)
    Muon([parameter], lr=1.0, weight_decay=0.0, adjust_lr_fn="match_rms_adamw").step()
    assert 0.15 < parameter.square().mean().sqrt() < 0.25


def test_state_survives_a_round_trip_and_training_goes_on_alike() -> None:
    torch.manual_seed(0)
    grads = [torch.randn(4, 6) for _ in range(4)]
    parameter = torch.nn.Parameter(torch.randn(4, 6))
    optimizer = Muon([parameter], lr=0.1)
    for grad in grads[:2]:
        parameter.grad = grad
        optimizer.step()
    twin = torch.nn.Parameter(parameter.detach().clone())
    resumed = Muon([twin], lr=0.7)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for grad in grads[2:]:
        parameter.grad = twin.grad = grad
        optimizer.step()
        resumed.step()
    assert torch.equal(parameter, twin)


def test_closure_runs_with_gradients() -> None:
    parameter = torch.nn.Parameter(torch.eye(3))
    optimizer = Muon([parameter], lr=0.1)

    def closure() -> float:
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 3.0
    assert parameter.square().sum() < 3.0


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"lr": -1.0}, "lr"),
        ({"momentum": 1.0}, "momentum"),
        ({"ns_steps": 0}, "ns_steps"),
        ({"adjust_lr_fn": "adam"}, "adjust_lr_fn"),
        ({"precision": "float8"}, "precision"),
    ],
)
def test_bad_options_are_named(options: dict, word: str) -> None:
    with pytest.raises(UserError, match=word):
        Muon([torch.nn.Parameter(torch.eye(2))], **options)


def test_a_vector_is_refused() -> None:
    with pytest.raises(UserError, match="matrices only"):
        Muon([torch.nn.Parameter(torch.ones(3))])


@pytest.mark.gpu
def test_cuda_steps_as_the_cpu_does() -> None:
    torch.manual_seed(0)
    start, grad = torch.randn(32, 32), torch.randn(32, 32)
    results = []
    for device in ("cpu", "cuda"):
        parameter = torch.nn.Parameter(start.to(device))
        parameter.grad = grad.to(device)
        Muon([parameter], lr=0.1).step()
        results.append(parameter.detach().cpu())
    assert (results[0] - results[1]).norm() < 0.03 * (results[0] - start).norm()
