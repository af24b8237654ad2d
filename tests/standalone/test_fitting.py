"""The fitting loop: it fits, stops, resumes to the same result, and says what is wrong."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bn_field_plugin import CoordinateMLP, CoordinateMLPConfig, UserError
from standalone import fitting
from standalone.checkpoints import load_checkpoint, save_checkpoint
from standalone.fitting import Budget, Callback, CheckpointOptions, FitState, finished, fit
from standalone.interrupts import INTERRUPTED, FitInterrupted, exit_on_interrupt
from standalone.networks import Variant
from standalone.optimization import RATES_AT, LearningRates, OptimizationConfig
from standalone.sampling import FullBatch, ShuffledBatches
from standalone.time_limit import TimeLimit
from tests.disks import full_disk

X = torch.rand(200, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
Y = torch.sin(3 * X).prod(1, keepdim=True)


def network(seed: int = 0) -> CoordinateMLP:
    torch.manual_seed(seed)
    return CoordinateMLP(Variant.parse("mlp+batch").config(2, 1, 8, 3))


def batches(seed: int = 0) -> ShuffledBatches:
    return ShuffledBatches(len(X), 64, lambda indices: (X[indices], Y[indices]), seed)


def run(mlp: CoordinateMLP, steps: int = 20, **options) -> FitState:
    return fit(mlp, batches(), F.mse_loss, OptimizationConfig(), Budget(steps), **options)


def weights(mlp: CoordinateMLP) -> list[Tensor]:
    return [value.clone() for value in mlp.state_dict().values()]


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def press_ctrl_c(at: int) -> Callback:
    """Send this process the signal of Ctrl-C after a given step."""

    def press(state: FitState) -> dict[str, float]:
        if state.step == at:
            os.kill(os.getpid(), signal.SIGINT)
        return {}

    return Callback(press, every=1)


def test_the_loss_falls() -> None:
    mlp = network()
    before = float(F.mse_loss(finished(mlp, [X])(X).detach(), Y))
    state = fit(mlp, FullBatch(X, Y), F.mse_loss, OptimizationConfig(), Budget(150))
    assert state.step == 150
    assert state.seconds > 0
    assert float(F.mse_loss(finished(mlp, [X])(X).detach(), Y)) < before / 10


def test_finished_is_the_training_function_with_exact_statistics_however_points_are_split() -> None:
    mlp = network()
    run(mlp)
    whole, split = finished(mlp, [X]), finished(mlp, X.split(33))
    assert whole.config.norm == "none"
    mlp.train()
    torch.testing.assert_close(whole(X), mlp(X), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole(X), split(X), rtol=1e-5, atol=1e-6)


def test_finished_leaves_the_network_alone() -> None:
    mlp = network()
    before = weights(mlp)
    finished(mlp, [X])
    assert equal(before, weights(mlp))


def test_callbacks_come_when_due_and_at_the_end_and_fill_the_history() -> None:
    state = run(network(), 10, callbacks=[Callback(lambda s: {"twice": 2 * s.step}, every=4)])
    assert [(row["step"], row["twice"]) for row in state.history] == [(4, 8), (8, 16), (10, 20)]
    assert {"seconds", "loss"} <= state.history[0].keys()


def test_a_time_limit_ends_the_fit() -> None:
    state = fit(network(), batches(), F.mse_loss, OptimizationConfig(), Budget(seconds=0.2))
    assert state.step >= 1
    assert state.seconds >= 0.2


class Clock:
    """A clock for fits and time limits, which moves when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, start: float = 0.0) -> None:
        self.now = start
        monkeypatch.setattr(fitting.time, "perf_counter", lambda: self.now)

    def __call__(self) -> float:
        return self.now

    def takes(self, seconds: float, calls: list[float] | None = None) -> Callback:
        """A callback that takes a given time."""

        def wait(state: FitState) -> dict[str, float]:
            self.now += seconds
            if calls is not None:
                calls.append(self.now)
            return {}

        return Callback(wait, every=1, seconds=seconds)

    def sampler(self, seconds: float) -> FullBatch:
        """Batches that take a given time to make."""
        sampler = FullBatch(X, Y)
        plain = sampler.next_batch

        def slowly() -> tuple[Tensor, Tensor]:
            self.now += seconds
            return plain()

        sampler.next_batch = slowly  # type: ignore[method-assign]
        return sampler


@pytest.mark.parametrize("start", [0.0, 7.0])
@pytest.mark.parametrize(("step", "call"), [(0.1, 0.0), (0.3, 1.5), (2.0, 1.0)])
def test_a_limit_holds_for_steps_and_callbacks_together(
    monkeypatch: pytest.MonkeyPatch, start: float, step: float, call: float
) -> None:
    clock, calls = Clock(monkeypatch, start), []
    budget = Budget(limit=TimeLimit(20.0, clock))
    state = fit(
        network(), clock.sampler(step), F.mse_loss, OptimizationConfig(), budget,
        callbacks=[clock.takes(call, calls)],
    )  # fmt: skip
    assert clock.now == pytest.approx(20.0, abs=0.51 * step + 1e-6)
    assert calls[-1] == clock.now, "the last step calls them"
    spent = call * (len(calls) - 1)
    assert spent <= fitting.CALLBACKS_SHARE * (20.0 - start) + 1e-6
    assert state.step == pytest.approx((20.0 - start - spent - call) / step, abs=1)


def test_learning_rates_follow_the_time_that_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, seen = Clock(monkeypatch), []
    factor = OptimizationConfig.factor

    def spy(self: OptimizationConfig, step: int, progress: float, steps: int | None = None) -> float:
        seen.append(progress)
        return factor(self, step, progress, steps)

    monkeypatch.setattr(OptimizationConfig, "factor", spy)
    limit = TimeLimit(100.0, clock).reserving(90.0)
    fit(network(), clock.sampler(1.0), F.mse_loss, OptimizationConfig(), Budget(limit=limit))
    assert seen == pytest.approx([k / 9.5 for k in range(10)], abs=0.06)


@pytest.mark.parametrize("by_time", [False, True])
def test_learning_rates_follow_the_steps_that_the_budget_will_take(
    monkeypatch: pytest.MonkeyPatch, by_time: bool
) -> None:
    clock, seen = Clock(monkeypatch), []
    rates = OptimizationConfig.learning_rates

    def spy(self: OptimizationConfig, network: CoordinateMLPConfig, steps: float = RATES_AT) -> LearningRates:
        seen.append(steps)
        return rates(self, network, steps)

    monkeypatch.setattr(OptimizationConfig, "learning_rates", spy)
    budget = Budget(limit=TimeLimit(100.0, clock)) if by_time else Budget(100)
    fit(network(), clock.sampler(1.0), F.mse_loss, OptimizationConfig(), budget)
    assert seen[:2] == [RATES_AT, RATES_AT if by_time else 100]
    assert seen[11:] == pytest.approx([100] * len(seen[11:]), rel=0.1)  # warm-up lasts as long


def test_a_limit_that_has_passed_leaves_one_step_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch, 30.0)
    budget = Budget(limit=TimeLimit(20.0, clock))
    assert fit(network(), clock.sampler(1.0), F.mse_loss, OptimizationConfig(), budget).step == 1
    assert "no time for steps" in capsys.readouterr().err


def test_a_resumed_fit_goes_on_with_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock, path = Clock(monkeypatch), tmp_path / "fit.pt"
    budget = Budget(limit=TimeLimit(20.0, clock))
    options = CheckpointOptions(path, every_seconds=1e9, resume=True)
    with pytest.raises(FitInterrupted):
        fit(
            network(), clock.sampler(1.0), F.mse_loss, OptimizationConfig(), budget,
            callbacks=[press_ctrl_c(8)], checkpoint=options,
        )  # fmt: skip
    clock.now = 3.0  # time passes until the next command
    state = fit(network(), clock.sampler(1.0), F.mse_loss, OptimizationConfig(), budget, checkpoint=options)
    assert state.step == 8 + 9, "8 seconds before and 3 of another start are taken from 20"


def test_an_interrupted_fit_resumes_to_the_same_result(tmp_path: Path) -> None:
    path = tmp_path / "fit.pt"
    straight = network()
    history = run(straight, callbacks=[Callback(lambda s: {"m": s.step}, every=5)]).history

    stopped = network()
    options = CheckpointOptions(path, identity={"seed": 0})
    before = signal.getsignal(signal.SIGINT)  # a job in the background may ignore it
    with pytest.raises(FitInterrupted, match="after step 7"):
        run(stopped, callbacks=[press_ctrl_c(7)], checkpoint=options)
    assert signal.getsignal(signal.SIGINT) is before

    resumed = network(seed=1)
    torch.rand(5)
    options = CheckpointOptions(path, resume=True, identity={"seed": 0})
    state = run(resumed, callbacks=[Callback(lambda s: {"m": s.step}, every=5)], checkpoint=options)
    assert state.step == 20
    assert equal(weights(straight), weights(resumed))
    assert [row["step"] for row in state.history if row["step"] > 7] == [
        row["step"] for row in history if row["step"] > 7
    ]
    assert state.history[-1]["loss"] == history[-1]["loss"]


def test_a_finished_fit_resumes_to_itself(tmp_path: Path) -> None:
    options = CheckpointOptions(tmp_path / "fit.pt", resume=True)
    first = network()
    run(first, checkpoint=options)
    second = network(seed=1)
    assert run(second, checkpoint=options).step == 20
    assert equal(weights(first), weights(second))


def test_checkpoints_are_read_without_running_code(tmp_path: Path) -> None:
    run(network(), checkpoint=CheckpointOptions(tmp_path / "fit.pt"))
    assert torch.load(tmp_path / "fit.pt", weights_only=True)["step"] == 20
    assert [path.name for path in tmp_path.iterdir()] == ["fit.pt"]


def test_a_checkpoint_of_another_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fit.pt"
    run(network(), checkpoint=CheckpointOptions(path, identity={"width": 8}))
    with pytest.raises(UserError, match=r"another fit .width was 8, now 9"):
        run(network(), checkpoint=CheckpointOptions(path, resume=True, identity={"width": 9}))


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04 cut short"])
def test_a_damaged_checkpoint_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "fit.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        load_checkpoint(path)


def test_a_checkpoint_that_the_disk_refuses_is_one_line_and_leaves_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1})
    message = r"checkpoint .*\.pt cannot be written \(File too large\): free"
    with full_disk(), pytest.raises(UserError, match=message):
        save_checkpoint(path, {"step": 2, "much": torch.zeros(10_000)})
    assert load_checkpoint(path)["step"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_other_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "fit.pt"
    with pytest.raises(UserError, match="no checkpoint"):
        load_checkpoint(path)
    torch.save({"step": 1}, path)
    with pytest.raises(UserError, match="no checkpoint of a fit"):
        load_checkpoint(path)
    save_checkpoint(path, {"version": 99})
    with pytest.raises(UserError, match="newer version"):
        load_checkpoint(path)
    save_checkpoint(path, {"network": {}})
    with pytest.raises(UserError, match="does not fit this network"):
        run(network(), checkpoint=CheckpointOptions(path, resume=True))


def test_a_loss_that_is_not_finite_stops_before_it_spoils_the_network() -> None:
    mlp = network()
    before = [p.clone() for p in mlp.parameters()]
    with pytest.raises(UserError, match="at step 1: lower the learning rates"):
        fit(mlp, FullBatch(X, Y * torch.nan), F.mse_loss, OptimizationConfig(), Budget(5))
    assert all(torch.equal(a, b) for a, b in zip(before, mlp.parameters(), strict=True))


def test_a_fit_in_another_thread_leaves_signals_alone() -> None:
    states = []
    thread = threading.Thread(target=lambda: states.append(run(network(), 3)))
    thread.start()
    thread.join()
    assert states[0].step == 3


def test_ctrl_c_ends_a_command_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped, exit_on_interrupt("add --resume to go on"):
        raise FitInterrupted("stopped after step 3")
    assert stopped.value.code == INTERRUPTED
    assert capsys.readouterr().err == "stopped after step 3: add --resume to go on\n"


@pytest.mark.parametrize("budget", [{}, {"steps": 0}, {"seconds": 0.0}, {"seconds": float("inf")}])
def test_a_budget_must_be_one(budget: dict[str, float]) -> None:
    with pytest.raises(UserError, match=r"--steps|--time-limit"):
        Budget(**budget)
