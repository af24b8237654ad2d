"""Progress of a fit: a bar on a terminal, a line at each evaluation elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

REFRESH_SECONDS = 0.2
"""Least time between two updates of the bar."""


class FitProgress:
    """A context manager that shows step, loss, metrics and the time left.

    Args:
        description: words for what is being fitted.
        metrics: names of the metrics to show, with their units, e.g. `{"psnr": "dB"}`.
        console: console to write to; standard error by default.
    """

    def __init__(
        self, description: str, metrics: Mapping[str, str] | None = None, console: Console | None = None
    ) -> None:
        self.description = description
        self.metrics = dict(metrics or {})
        self.console = console or Console(stderr=True)
        self._latest: dict[str, float] = {}
        self._last_update = 0.0
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> FitProgress:
        if self.console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[text]}"),
            )
            self._bar = Progress(*columns, console=self.console)
            self._bar.start()
            self._task = self._bar.add_task(self.description, total=1.0, text="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(
        self,
        step: int,
        progress: float,
        seconds: float,
        loss: float,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Show the state after a step.

        Args:
            step: steps taken.
            progress: share of the budget that is spent, in [0, 1].
            seconds: seconds that these steps took.
            loss: the latest loss.
            metrics: metrics, if they were evaluated after this step.
        """
        if metrics:
            self._latest |= {name: metrics[name] for name in self.metrics if name in metrics}
        text = self._text(step, progress, seconds, loss)
        if self._bar is not None and self._task is not None:
            now = time.perf_counter()
            if metrics or progress >= 1 or now - self._last_update >= REFRESH_SECONDS:
                self._last_update = now
                self._bar.update(self._task, completed=min(progress, 1.0), text=text)
        elif metrics:
            self.console.print(f"{self.description}: {text}", highlight=False, soft_wrap=True)

    def _text(self, step: int, progress: float, seconds: float, loss: float) -> str:
        parts = [f"step {step}", f"loss {loss:.2e}"]
        parts += [f"{name} {value:.2f} {self.metrics[name]}".strip() for name, value in self._latest.items()]
        left = seconds * (1 - progress) / progress if progress > 0 else 0.0
        minutes, rest = divmod(round(max(left, 0.0)), 60)
        return ", ".join([*parts, f"{minutes}:{rest:02d} left"])
