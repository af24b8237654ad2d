"""The warmup is torch's linear one, and the decay torch's cosine one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin.nn.schedule import cosine_decay, warmup


def torchs_factors(kind: type, steps: int, **options: float) -> list[float]:
    """Factors of one of torch's schedulers at steps 0, 1, ..., `steps`."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, found = kind(optimizer, **options), []
    for _ in range(steps + 1):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@given(st.integers(1, 60), st.integers(0, 20))
def test_the_warmup_is_torchs(steps: int, beyond: int) -> None:
    start = {"start_factor": 1 / (steps + 1), "total_iters": steps}
    truth = torchs_factors(torch.optim.lr_scheduler.LinearLR, steps + beyond, **start)
    assert [warmup(step, steps) for step in range(steps + beyond + 1)] == pytest.approx(truth)


def test_without_a_warmup_the_factor_is_one_at_once() -> None:
    assert warmup(0, 0) == 1


@given(st.integers(1, 60), st.floats(0, 1))
def test_the_decay_is_torchs(steps: int, final: float) -> None:
    ends = {"T_max": steps, "eta_min": final}
    truth = torchs_factors(torch.optim.lr_scheduler.CosineAnnealingLR, steps, **ends)
    assert [cosine_decay(step / steps, final) for step in range(steps + 1)] == pytest.approx(truth, abs=1e-9)


@pytest.mark.parametrize(("progress", "factor"), [(-0.5, 1.0), (1.0, 0.1), (7.0, 0.1)])
def test_outside_of_the_run_the_factor_is_that_of_its_end(progress: float, factor: float) -> None:
    assert cosine_decay(progress, 0.1) == pytest.approx(factor)
