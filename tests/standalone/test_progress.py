"""Progress: a line for each evaluation in a log, a bar on a terminal, with the time that is left."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from standalone.progress import FitProgress


def shown(terminal: bool) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=120)
    with FitProgress("MLP", {"psnr": "dB"}, console) as progress:
        progress.update(10, 0.1, 6.0, 0.5)
        progress.update(50, 0.5, 30.0, 0.25, {"psnr": 21.5, "band": 1.0})
        progress.update(100, 1.0, 60.0, 0.125)
    return stream.getvalue()


def test_a_log_has_a_line_for_each_evaluation() -> None:
    assert shown(False) == "MLP: step 50, loss 2.50e-01, psnr 21.50 dB, 0:30 left\n"


@pytest.mark.parametrize("part", ["step 100", "loss 1.25e-01", "psnr 21.50 dB", "0:00 left"])
def test_a_terminal_has_a_bar_that_ends_with_the_last_state(part: str) -> None:
    assert part in shown(True)
