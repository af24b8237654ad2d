"""The viewer, alone and while training, driven over its websocket as a browser drives it."""

import re
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.pipelines.base_pipeline import Pipeline
from nerfstudio.utils import colormaps
from nerfstudio.utils.eval_utils import eval_setup
from nerfstudio.viewer.utils import CameraState, get_camera

from bn_field_plugin.nn import batch_statistics
from tests.commands import common_folder, config_of, trained, training
from tests.viewer.serving import page, running
from tests.viewer.visitor import ANSWER, DISTANCE, FIELD_OF_VIEW, visiting

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(common_folder(tmp_path_factory))


def expected_picture(pipeline: Pipeline, output: str, size: int) -> np.ndarray:
    """What the model renders from the camera of `look(0)`, by nerfstudio's own functions."""
    pose = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, -DISTANCE], [0, 1, 0, 0]])  # right, up, backwards, place
    state = CameraState(FIELD_OF_VIEW, aspect=1.0, c2w=pose, camera_type=CameraType.PERSPECTIVE)
    rendered = pipeline.model.get_outputs_for_camera(get_camera(state, size, size))[output]
    return colormaps.apply_colormap(rendered, colormaps.ColormapOptions(normalize=True)).numpy()


def test_ns_viewer_shows_what_the_model_renders(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page, outputs to choose from, and for each of them the very picture that the checkpoint gives."""
    monkeypatch.chdir(work)  # the paths in the config are relative
    config = config_of(work, "shared")
    _, pipeline, _, _ = eval_setup(config, test_mode="inference")
    log = tmp_path / "log.txt"
    with running(work, log, "ns-viewer", "--load-config", config) as (_, port):
        assert "<html" in page(port)
        with visiting(port) as visitor:
            visitor.wait_for_outputs()
            assert {"rgb", "depth", "accumulation", "density", "drift"} <= visitor.outputs
            for output in ("depth", "accumulation", "rgb"):
                visitor.set("Output type", output)
                visitor.look(0.0)
                errors = []
                for picture in visitor.pictures():  # older renders may still be on their way
                    assert picture.shape[0] == picture.shape[1]
                    expected = expected_picture(pipeline, output, len(picture))
                    errors.append(np.abs(picture - expected).mean())
                    if errors[-1] < 0.004:  # 8 bits
                        break
                else:
                    pytest.fail(f"no picture of {output} was right: mean errors {errors}")
            visitor.set("Statistics", "batch")
            with batch_statistics(pipeline.model):
                for picture in visitor.pictures():
                    expected = expected_picture(pipeline, "rgb", len(picture))
                    if np.abs(picture - expected).mean() < 0.004:
                        break
                else:
                    pytest.fail("no picture with batch statistics was right")
    assert "Traceback" not in log.read_text()


def test_a_port_in_use_is_one_line_and_the_next_free_one(work: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        command = ("ns-viewer", "--load-config", config_of(work, "shared"))
        with running(work, log, *command, port=taken, serves=lambda: "is in use" in log.read_text()):
            text = " ".join(log.read_text().split())
            (real,) = re.findall(rf"port {taken} .* is in use: the viewer is at port (\d+) instead", text)
            assert "<html" in page(int(real))
    assert "Traceback" not in log.read_text()


def test_the_viewer_shows_training_and_leaves_it_alone(work: Path, tmp_path: Path) -> None:
    """Pictures of all outputs while training goes on; Ctrl-C then ends it with a checkpoint."""
    log = tmp_path / "log.txt"
    words = training("bn-nerf-small", "viewed", "--data", "blender", "--max-num-iterations", 100_000)
    with running(work, log, *words, "--vis", "viewer") as (process, port):
        with visiting(port) as visitor:
            visitor.wait_for_outputs()
            seen = {}
            for turn, output in enumerate(("rgb", "depth", "accumulation")):
                visitor.set("Output type", output)
                visitor.look(0.1 * turn)
                chosen = time.monotonic()
                for picture in visitor.pictures():
                    if time.monotonic() > chosen + 3:  # older renders have passed
                        seen[output] = picture
                        break
        process.send_signal(signal.SIGINT)
        assert process.wait(ANSWER) == 0
    assert seen.keys() == {"rgb", "depth", "accumulation"}
    assert all(picture.std() > 0.01 for picture in seen.values())
    text = log.read_text()
    assert "Traceback" not in text
    (saved,) = (config_of(work, "viewed").parent / "nerfstudio_models").iterdir()
    state = torch.load(saved, weights_only=True)
    tracked = {int(v) for k, v in state["pipeline"].items() if k.endswith("num_batches_tracked")}
    # One update a step, none by the viewer; the step at which a run is stopped is not trained.
    assert tracked == {state["step"]}
    assert all(value.isfinite().all() for value in state["pipeline"].values())
