"""ns-viewer of a checkpoint, over its websocket and in Chromium: one process for all of it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.pipelines.base_pipeline import Pipeline
from nerfstudio.utils import colormaps
from nerfstudio.utils.eval_utils import eval_setup
from nerfstudio.viewer.utils import CameraState, get_camera

from benchmarks.serving import page, wait_for
from bn_field_plugin.nn import batch_statistics
from tests.commands import common_folder, config_of, trained
from tests.viewer.browser import (
    DRIFT,
    PATIENCE,
    PSNR,
    SPECTRUM,
    choose,
    keep_screenshot,
    opened,
    options,
    picture,
    plots,
    settled,
    wait_for_outputs,
)
from tests.viewer.serving import running, tracebacks
from tests.viewer.visitor import DISTANCE, FIELD_OF_VIEW, visiting

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(common_folder(tmp_path_factory))


@pytest.fixture(scope="module")
def port(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a viewer of the checkpoint, which Ctrl-C ends at last, without a traceback."""
    log = tmp_path_factory.mktemp("ns-viewer") / "log.txt"
    command = ("ns-viewer", "--load-config", config_of(work, "shared"))
    with running(work, log, *command) as (process, port):
        yield port
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    assert not tracebacks(log)


def expected_picture(pipeline: Pipeline, output: str, size: int) -> np.ndarray:
    """The picture from the camera of `look(0)`, rendered by nerfstudio's own functions."""
    pose = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, -DISTANCE], [0, 1, 0, 0]])  # right, up, backwards, place
    state = CameraState(FIELD_OF_VIEW, aspect=1.0, c2w=pose, camera_type=CameraType.PERSPECTIVE)
    rendered = pipeline.model.get_outputs_for_camera(get_camera(state, size, size))[output]
    return colormaps.apply_colormap(rendered, colormaps.ColormapOptions(normalize=True)).numpy()


def test_it_shows_what_the_model_renders(work: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page offers the outputs, and shows for each the picture that the checkpoint gives."""
    monkeypatch.chdir(work)  # the paths in the config are relative
    _, pipeline, _, _ = eval_setup(config_of(work, "shared"), test_mode="inference")
    assert "<html" in page(port)
    with visiting(port) as visitor:
        visitor.wait_for_outputs()
        assert {"rgb", "depth", "accumulation", "density", "drift"} <= visitor.outputs
        for output in ("depth", "accumulation", "rgb"):
            visitor.set("Output type", output)
            visitor.look(0.0)
            errors = []
            for seen in visitor.pictures():  # the first ones may be of the last output
                assert seen.shape[0] == seen.shape[1]
                errors.append(np.abs(seen - expected_picture(pipeline, output, len(seen))).mean())
                if errors[-1] < 0.004:  # rounding to 8 bits
                    break
            else:
                pytest.fail(f"no picture of {output} was right: mean errors {errors}")
        visitor.set("Statistics", "batch")
        with batch_statistics(pipeline.model):
            for seen in visitor.pictures():
                if np.abs(seen - expected_picture(pipeline, "rgb", len(seen))).mean() < 0.004:
                    break
            else:
                pytest.fail("no picture with batch statistics was right")
        visitor.set("Statistics", "running")


def test_a_browser_shows_any_statistics_and_outputs(port: int) -> None:
    """Spectrum and drift are there at once; each choice changes the picture, and can be taken back."""
    with opened(port) as tab:
        tab.get_by_text("effective rank").wait_for()
        found = plots(tab)
        assert sum(sum(bar["y"]) for bar in found[SPECTRUM]) == 96
        assert len(found[DRIFT][0]["y"]) == 8  # a bar for each norm
        assert max(found[DRIFT][0]["x"]) < 0.5  # the checkpoint's statistics are exact
        assert PSNR not in found
        wait_for_outputs(tab)
        assert {"rgb", "density", "drift"} <= set(options(tab, "Output type"))
        tab.locator("xpath=//label[text()='Max res']/ancestor::div[2]//input").last.fill("64")
        tab.keyboard.press("Enter")
        choose(tab, "Statistics", "running")
        choose(tab, "Output type", "rgb")
        running_picture = settled(tab)

        def differs(now: np.ndarray) -> bool:
            return float(np.abs(now - running_picture).mean()) > 0.01

        keep_screenshot(tab, "viewer-checkpoint")
        choose(tab, "Statistics", "batch")
        settled(tab, differs)
        choose(tab, "Statistics", "running")
        settled(tab, lambda now: not differs(now))
        for output in ("density", "drift"):
            choose(tab, "Output type", output)
            assert settled(tab, differs).std() > 0.01
            keep_screenshot(tab, f"viewer-{output}")
        spectrum = plots(tab)[SPECTRUM]
        choose(tab, "Spectrum of", "field_coarse")
        wait_for(lambda: plots(tab)[SPECTRUM] != spectrum, PATIENCE)
        assert picture(tab).std() > 0.01
        choose(tab, "Spectrum of", "field_fine")
        wait_for(lambda: plots(tab)[SPECTRUM] == spectrum, PATIENCE)  # all bars are there again
        assert plots(tab)[DRIFT] == found[DRIFT]
