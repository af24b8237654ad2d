"""The panel as a user sees it: in Chromium, while training runs and on a checkpoint."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Page

from tests.commands import common_folder, config_of, trained, training
from tests.viewer.browser import (
    PATIENCE,
    choose,
    keep_screenshot,
    needs_chromium,
    opened,
    options,
    picture,
    plots,
    settled,
)
from tests.viewer.serving import running, wait_for

pytestmark = pytest.mark.slow

SPECTRUM, PSNR, DRIFT = "NTK of the density", "PSNR of training rays", "Drift of running statistics"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs_chromium()
    return trained(common_folder(tmp_path_factory))


def wait_for_outputs(page: Page) -> None:
    """The first picture tells the viewer which outputs there are."""
    wait_for(lambda: page.get_by_label("Output type", exact=True).input_value() == "rgb", PATIENCE)


def test_the_panel_lives_while_training_runs(work: Path, tmp_path: Path) -> None:
    """Histogram and curves move on; switching statistics and outputs does not move what is trained."""
    log = tmp_path / "log.txt"
    words = training("bn-nerf-small", "watched", "--data", "blender", "--max-num-iterations", 100_000)
    with running(work, log, *words, "--vis", "viewer") as (process, port):
        with opened(port) as page:
            page.get_by_text("of training time").wait_for()
            wait_for_outputs(page)
            assert {"rgb", "density", "drift"} <= set(options(page, "Output type"))
            first = plots(page)
            assert {SPECTRUM, PSNR, DRIFT} <= first.keys()
            assert sum(sum(bar["y"]) for bar in first[SPECTRUM]) == 96  # probe points
            assert {bar["type"] for bar in first[SPECTRUM]} == {"bar"}
            assert options(page, "Statistics") == ["running", "exact", "batch"]
            for statistics in ("batch", "exact"):
                choose(page, "Statistics", statistics)
            choose(page, "Output type", "drift")
            wait_for(lambda: len(plots(page)[PSNR][0]["x"]) > len(first[PSNR][0]["x"]), PATIENCE)
            later = plots(page)
            assert later[SPECTRUM] != first[SPECTRUM]
            assert {curve["name"] for curve in later[DRIFT]} == {
                *("coarse.trunk", "coarse.head", "fine.trunk", "fine.head")
            }
            choose(page, "Statistics", "running")
            choose(page, "Output type", "rgb")
            page.wait_for_timeout(1500)
            keep_screenshot(page, "viewer-training")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    assert "Traceback" not in log.read_text()
    (saved,) = (config_of(work, "watched").parent / "nerfstudio_models").iterdir()
    state = torch.load(saved, weights_only=True)
    tracked = {int(v) for k, v in state["pipeline"].items() if k.endswith("num_batches_tracked")}
    assert tracked == {state["step"]}  # one update a step, none by looking


def test_a_checkpoint_with_any_statistics_and_outputs(work: Path, tmp_path: Path) -> None:
    """Spectrum and drift at once; each choice changes the picture, and taking it back brings it back."""
    log = tmp_path / "log.txt"
    config = config_of(work, "shared")
    with running(work, log, "ns-viewer", "--load-config", config) as (_, port), opened(port) as page:
        page.get_by_text("effective rank").wait_for()
        found = plots(page)
        assert sum(sum(bar["y"]) for bar in found[SPECTRUM]) == 96
        assert len(found[DRIFT][0]["y"]) == 8  # a bar for each norm
        assert max(found[DRIFT][0]["x"]) < 0.5  # the checkpoint's statistics are exact
        assert PSNR not in found
        wait_for_outputs(page)
        assert {"rgb", "density", "drift"} <= set(options(page, "Output type"))
        page.locator("xpath=//label[text()='Max res']/ancestor::div[2]//input").last.fill("64")
        page.keyboard.press("Enter")
        choose(page, "Output type", "rgb")
        running_picture = settled(page)

        def differs(now: np.ndarray) -> bool:
            return float(np.abs(now - running_picture).mean()) > 0.01

        keep_screenshot(page, "viewer-checkpoint")
        choose(page, "Statistics", "batch")
        settled(page, differs)
        choose(page, "Statistics", "running")
        settled(page, lambda now: not differs(now))
        for output in ("density", "drift"):
            choose(page, "Output type", output)
            assert settled(page, differs).std() > 0.01
            keep_screenshot(page, f"viewer-{output}")
        spectrum = plots(page)[SPECTRUM]
        choose(page, "Spectrum of", "field_coarse")
        wait_for(lambda: plots(page)[SPECTRUM] != spectrum, PATIENCE)
        assert picture(page).std() > 0.01
    assert "Traceback" not in log.read_text()
