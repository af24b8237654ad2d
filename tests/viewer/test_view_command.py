"""`bn-view` as a user runs it, in Chromium."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest

from benchmarks import browser
from tests.commands import common_folder, config_of, run, trained, training
from tests.viewer.browser import PATIENCE, keep_screenshot, needs_chromium, plots
from tests.viewer.serving import running, tracebacks

pytestmark = pytest.mark.slow


def test_two_runs_stand_side_by_side(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    """The picture has two halves, the panel both spectra, and Ctrl-C ends without an error."""
    needs_chromium()
    work = trained(common_folder(tmp_path_factory))
    words = training("nerf-small", "beside", "--data", "blender", "--max-num-iterations", 11)
    run(work, *words, fresh=False).check()
    runs = (config_of(work, "shared"), config_of(work, "beside", "nerf-small").parent)
    log = tmp_path / "log.txt"
    command = ("python", "-m", "bn_field_plugin.viewer.cli", *runs)
    with running(work, log, *command) as (process, port):
        with browser.opened(port, 1300, 900) as tab:
            tab.page.get_by_text("nerf-small Spectrum:").last.wait_for()
            tab.wait_until(lambda: tab.pictures and tab.pictures[-1].width == 512)
            tab.wait(2)
            assert (
                tab.page.get_by_label("Output render split", exact=True).input_value() == "rgb of nerf-small"
            )
            assert plots(tab.page)["NTK of the density"][0]["name"] == "bn-nerf-small"
            pixels = tab.pictures[-1].pixels
            left, right = np.split(pixels[:, :512], 2, axis=1)
            assert np.abs(left.mean((0, 1)) - right.mean((0, 1))).max() > 0.01
            keep_screenshot(tab.page, "viewer-beside")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    assert not tracebacks(log)
