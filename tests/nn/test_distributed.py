"""Two processes with a share of the batch each equal one process with the whole batch."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from bn_field_plugin.nn import CoordinateMLP, batch_statistics, build_norm, frozen_statistics
from tests.nn.cases import RUNNING, coordinates, draw, network, statistics, unchanged
from tests.processes import needs_gloo, results_of_two

pytestmark = [pytest.mark.slow, needs_gloo]

N = 13
SPLITS = {"unequal": (5, 8), "one sample": (1, 12), "no sample": (13, 0)}
CASES = [
    (norm, placement, split)
    for norm, placement, split in itertools.product(RUNNING, ("before", "after"), SPLITS)
]
FAR = 1e4
Result = dict[str, list[Tensor]]


def far_from_zero() -> Tensor:
    """Samples in fp32 whose squares lose their variance."""
    return draw(N, 8, dtype=torch.float32) + FAR


def case_network(norm: str, placement: str, **options) -> CoordinateMLP:
    return network(norm=norm, placement=placement, skips=(1,), encoding="positional", **options)


def step(mlp: CoordinateMLP, x: Tensor, grad: Tensor) -> Result:
    """Results of one training pass, forward and backward, and its changes."""
    x = x.clone().requires_grad_()
    y = mlp(x)
    y.backward(grad)
    gradients = [p.grad for p in mlp.parameters()]
    return {
        "outputs": [y.detach()],
        "inputs": [x.grad],
        "gradients": gradients,
        "statistics": statistics(mlp),
    }


def two_steps(mlp: CoordinateMLP, rows: slice = slice(None)) -> list[Result]:
    """Results of two training passes over this process's rows of each batch."""
    results = []
    for seed in range(2):
        mlp.zero_grad()
        results.append(step(mlp, coordinates(N, 3, seed=seed)[rows], draw(N, 2, seed=9)[rows]))
    return results


def share(rank: int, split: str) -> slice:
    first = SPLITS[split][0]
    return slice(0, first) if rank == 0 else slice(first, N)


def worker(rank: int) -> dict:
    """Results of all cases in one of two processes."""
    results: dict = {}
    for norm, placement, split in CASES:
        mlp = case_network(norm, placement)
        results[norm, placement, split] = two_steps(mlp, share(rank, split))
        if rank == 0:  # Passes of evaluation must not wait for the other process.
            with torch.no_grad():
                mlp(coordinates(4, 3))
            with frozen_statistics(mlp):
                mlp(coordinates(1, 3))
            with batch_statistics(mlp.eval()):
                mlp(coordinates(4, 3))
            mlp(coordinates(4, 3))

    for norm in RUNNING:
        rows = share(rank, "unequal")
        results[norm, "alone"] = two_steps(case_network(norm, "before", synchronize=False), rows)
        mlp = case_network(norm, "before")
        before, x = statistics(mlp), coordinates(N, 3)
        x[7] = torch.nan  # row 7 belongs to the second process
        mlp(x[rows])
        results[norm, "poisoned"] = unchanged(mlp, before)
        with batch_statistics(mlp):
            results[norm, "batch mode"] = mlp(coordinates(N, 3)[rows]).detach()
        results[norm, "batch mode unchanged"] = unchanged(mlp, before)
        results[norm, "far"] = build_norm(norm, 8)(far_from_zero()[rows]).detach()
    return results


@pytest.fixture(scope="module")
def processes(tmp_path_factory) -> list[dict]:
    """Results of each of two processes."""
    return results_of_two(worker, tmp_path_factory.mktemp("gloo"))


def close(actual: list[Tensor], expected: list[Tensor]) -> None:
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("norm", "placement", "split"), CASES)
def test_two_processes_equal_one_with_the_joined_batch(processes, norm, placement, split):
    whole = two_steps(case_network(norm, placement))
    for index, expected in enumerate(whole):
        a, b = (process[norm, placement, split][index] for process in processes)
        for name in ("outputs", "inputs"):
            close([torch.cat([a[name][0], b[name][0]])], expected[name])
        close([p + q for p, q in zip(a["gradients"], b["gradients"], strict=True)], expected["gradients"])
        close(a["statistics"], expected["statistics"])
        assert all(torch.equal(p, q) for p, q in zip(a["statistics"], b["statistics"], strict=True))


@pytest.mark.parametrize("norm", RUNNING)
def test_without_synchronisation_each_process_has_its_own_batch(processes, norm):
    for rank, process in enumerate(processes):
        expected = two_steps(case_network(norm, "before"), share(rank, "unequal"))
        for a, b in zip(process[norm, "alone"], expected, strict=True):
            for name, values in b.items():
                close(a[name], values)


@pytest.mark.parametrize("norm", RUNNING)
def test_a_non_finite_sample_of_one_process_leaves_the_statistics_of_both(processes, norm):
    assert [process[norm, "poisoned"] for process in processes] == [True, True]


@pytest.mark.parametrize("norm", RUNNING)
def test_batch_mode_joins_the_batch_and_changes_nothing(processes, norm):
    mlp = case_network(norm, "before")
    with batch_statistics(mlp):
        expected = mlp(coordinates(N, 3))
    close([torch.cat([process[norm, "batch mode"] for process in processes])], [expected.detach()])
    assert all(process[norm, "batch mode unchanged"] for process in processes)


@pytest.mark.parametrize("norm", RUNNING)
def test_a_large_mean_does_not_cancel_the_joined_variance(processes, norm):
    expected = build_norm(norm, 8).double()(far_from_zero().double())
    actual = torch.cat([process[norm, "far"] for process in processes])
    assert (actual - expected).abs().max() < 4 * torch.finfo(torch.float32).eps * FAR


def test_the_count_of_cross_norm_is_that_of_the_joined_batch(processes):
    """A cross has the n samples of all processes and the c - 1 other features of its own row."""
    for process in processes:
        counts = [s for s in process["cross", "before", "unequal"][0]["statistics"] if s.dtype == torch.long]
        assert [int(c) for c in counts] == [1, N] * 3  # batches tracked, then samples, of three norms
