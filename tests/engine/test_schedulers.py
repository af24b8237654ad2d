"""Learning rate schedules: their shape, torch's own as oracle, and resumption."""

import io
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nerfstudio.engine.schedulers import ExponentialDecaySchedulerConfig

from bn_field_plugin.engine.schedulers import (
    CosineDecay,
    CosineDecayConfig,
    ExponentialDecay,
    ExponentialDecayConfig,
)
from bn_field_plugin.errors import UserError

CURVES = [CosineDecay, ExponentialDecay]
CONFIGS = [CosineDecayConfig, ExponentialDecayConfig]


def an_optimizer(lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def schedule(
    config: type[CosineDecayConfig], warmup_steps: int, final_fraction: float, max_steps: int | None
) -> CosineDecayConfig:
    return config(warmup_steps=warmup_steps, final_fraction=final_fraction, max_steps=max_steps)


def rates(config: CosineDecayConfig, steps: int) -> list[float]:
    """The learning rate of each training step."""
    optimizer = an_optimizer()
    scheduler = config.setup().get_scheduler(optimizer, lr_init=0.1)
    used = []
    for _ in range(steps):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return used


@pytest.mark.parametrize("curve", CURVES)
@given(
    warmup=st.integers(0, 50),
    length=st.integers(1, 200),
    final=st.floats(1e-4, 1.0),
    beyond=st.integers(0, 99),
)
def test_rises_to_one_falls_to_the_final_fraction_and_stays(curve, warmup, length, final, beyond) -> None:
    factor = curve(warmup, warmup + length, final)
    rise = [factor(step) for step in range(warmup + 1)]
    fall = [factor(step) for step in range(warmup, warmup + length + 1)]
    assert all(0 < a < b for a, b in itertools.pairwise(rise))
    assert all(a >= b for a, b in itertools.pairwise(fall))
    assert factor(warmup) == 1.0
    assert factor(warmup + length) == pytest.approx(final)
    assert factor(warmup + length + beyond) == factor(warmup + length)


def test_cosine_equals_that_of_torch() -> None:
    optimizer = an_optimizer()
    oracle = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30, eta_min=0.1 * 0.05)
    expected = []
    for _ in range(31):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        oracle.step()
    assert rates(CosineDecayConfig(final_fraction=0.05, max_steps=30), 31) == pytest.approx(expected)


def test_exponential_equals_that_of_nerfstudio() -> None:
    optimizer = an_optimizer()
    oracle = ExponentialDecaySchedulerConfig(lr_final=0.1 * 0.05, max_steps=30).setup()
    scheduler = oracle.get_scheduler(optimizer, lr_init=0.1)
    expected = []
    for _ in range(40):
        expected.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    assert rates(ExponentialDecayConfig(final_fraction=0.05, max_steps=30), 40) == pytest.approx(expected)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_resumed_run_keeps_the_schedule_it_began_with(config) -> None:
    """The state goes through a file that `torch.load` reads with weights only; new options do not matter."""
    whole = rates(schedule(config, 4, 0.1, 20), 24)
    optimizer = an_optimizer()
    scheduler = schedule(config, 4, 0.1, 20).setup().get_scheduler(optimizer, lr_init=0.1)
    for _ in range(9):
        optimizer.step()
        scheduler.step()
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)

    optimizer = an_optimizer(lr=0.7)
    scheduler = schedule(config, 0, 0.5, 10).setup().get_scheduler(optimizer, lr_init=0.7)
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    resumed = []
    for _ in range(15):
        resumed.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert resumed == whole[9:]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ((-1, 0.1, 10), "warmup_steps"),
        ((10, 0.1, 10), "max_steps"),
        ((0, 0.0, 10), "final_fraction"),
        ((0, 1.1, 10), "final_fraction"),
        ((0, 0.1, None), "max_steps"),
    ],
)
@pytest.mark.parametrize("config", CONFIGS)
def test_bad_options_are_named(config, options, word: str) -> None:
    with pytest.raises(UserError, match=word):
        schedule(config, *options).setup().get_scheduler(an_optimizer(), lr_init=0.1)
