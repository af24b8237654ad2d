"""ns-train with the viewer, over its websocket and in Chromium: looking leaves training alone."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.browser import chromium
from benchmarks.serving import wait_for
from tests.commands import common_folder, config_of, trained, training
from tests.viewer.browser import (
    DRIFT,
    PATIENCE,
    PSNR,
    SPECTRUM,
    choose,
    keep_screenshot,
    opened,
    options,
    plots,
    wait_for_outputs,
)
from tests.viewer.serving import running, tracebacks
from tests.viewer.visitor import visiting

pytestmark = pytest.mark.slow


def test_looking_leaves_training_alone(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    """Pictures and a panel that live while training goes on; Ctrl-C then ends it with a checkpoint."""
    work = trained(common_folder(tmp_path_factory))
    log = tmp_path / "log.txt"
    words = training("bn-nerf-small", "viewed", "--data", "blender", "--max-num-iterations", 100_000)
    with running(work, log, *words, "--vis", "viewer") as (process, port):
        seen = pictures(port)
        if chromium() is not None:
            watch(port)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    assert seen.keys() == {"rgb", "depth", "accumulation"}
    assert not tracebacks(log)
    (saved,) = (config_of(work, "viewed").parent / "nerfstudio_models").iterdir()
    state = torch.load(saved, weights_only=True)
    tracked = {int(v) for k, v in state["pipeline"].items() if k.endswith("num_batches_tracked")}
    # Each step has updated once, looking never; the step at which a run is stopped is not trained.
    assert tracked == {state["step"]}
    assert all(value.isfinite().all() for value in state["pipeline"].values())


def pictures(port: int) -> dict[str, np.ndarray]:
    """A picture of each output in which there is something, at least three seconds after it was chosen.

    In its first seconds, training may take everything for empty.
    """
    seen = {}
    with visiting(port) as visitor:
        visitor.wait_for_outputs()
        for turn, output in enumerate(("rgb", "depth", "accumulation")):
            visitor.set("Output type", output)
            visitor.look(0.1 * turn)
            chosen = time.monotonic()
            for picture in visitor.pictures():
                # Earlier pictures may be of the last output.
                if time.monotonic() > chosen + 3 and picture.std() > 0.01:
                    seen[output] = picture
                    break
    return seen


def watch(port: int) -> None:
    """In a browser, histogram and curves go on with training, whatever is chosen."""
    with opened(port) as page:
        page.get_by_text("of training time").wait_for()
        wait_for_outputs(page, "accumulation")
        assert {"rgb", "density", "drift"} <= set(options(page, "Output type"))
        first = plots(page)
        assert {SPECTRUM, PSNR, DRIFT} <= first.keys()
        assert sum(sum(bar["y"]) for bar in first[SPECTRUM]) == 96  # one for each probe point
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
