"""The commands of nerfstudio with our methods, from the command line to the files that they leave."""

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.commands import STEPS, TINY, Finished, common_folder, config_of, run, run_all, trained, training

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and one trained run, shared with the tests of the viewer."""
    return trained(common_folder(tmp_path_factory))


def checkpoint(config: Path, step: int) -> dict:
    return torch.load(config.parent / "nerfstudio_models" / f"step-{step:09d}.ckpt", weights_only=True)


def scalars(config: Path, tag: str) -> dict[int, float]:
    (log,) = config.parent.glob("events.*")
    events = EventAccumulator(str(log))
    events.Reload()
    return {event.step: event.value for event in events.Scalars(tag)}


# ----------------------------------------------------------------------------------------------- training


@pytest.fixture(scope="session")
def runs(work: Path) -> dict[str, Finished]:
    """Training runs of other methods, data and options."""
    models = config_of(work, "shared").parent / "nerfstudio_models"
    small_demo = ("bn-demo-data", "--image-size", 16, "--num-train", 4, "--num-val", 1, "--num-test", 1)
    return run_all(
        work,
        {
            "demo": (
                *training("nerf-small", "demo", "--max-num-iterations", 11),
                *small_demo,
                "--samples",
                1,
            ),
            "capture": training(
                *("bn-nerf", "capture", "--max-num-iterations", 21, "--mixed-precision", True, *TINY),
                *("--pipeline.model.norm", "cross", "nerfstudio-data", "--data", "capture"),
            ),
            "resumed": training(
                *("bn-nerf-small", "resumed", "--data", "blender", "--max-num-iterations", 10),
                *("--load-dir", models, "--load-step", 60),
            ),
        },
    )


def test_training_on_blender_data_learns(work: Path) -> None:
    losses = scalars(config_of(work, "shared"), "Train Loss Dict/rgb_loss_fine")
    assert losses[STEPS - 1] < 0.5 * losses[0]
    assert all(math.isfinite(loss) for loss in losses.values())


def test_training_on_the_demo_scene_needs_no_path(work: Path, runs: dict[str, Finished]) -> None:
    runs["demo"].check()
    state = checkpoint(config_of(work, "demo", "nerf-small"), 10)
    assert not [key for key in state["pipeline"] if ".norm." in key]
    assert (work / "cache").is_dir()


def test_training_on_a_capture_with_another_norm(work: Path, runs: dict[str, Finished]) -> None:
    runs["capture"].check()
    state = checkpoint(config_of(work, "capture", "bn-nerf"), 20)["pipeline"]
    assert [key for key in state if key.endswith("running_count")]
    assert all(value.isfinite().all() for value in state.values())


def test_resumption_goes_on_where_the_run_was(work: Path, runs: dict[str, Finished]) -> None:
    """The step, the statistics' counts, the schedule's rate and the optimizers' state."""
    runs["resumed"].check()
    before, after = checkpoint(config_of(work, "shared"), 60), checkpoint(config_of(work, "resumed"), 70)
    assert after["step"] == before["step"] + 10
    counts = [key for key in before["pipeline"] if key.endswith("num_batches_tracked")]
    assert counts
    assert {int(before["pipeline"][key]) for key in counts} == {61}
    assert {int(after["pipeline"][key]) for key in counts} == {71}
    for group, step in ((before, 61), (after, 71)):
        warmup = STEPS // 10
        wave = 0.5 * (1 + math.cos(math.pi * (step - warmup) / (STEPS - warmup)))
        for name, state in group["optimizers"].items():
            rate = {"hidden_matrices": 2e-2, "fields": 5e-3}[name]
            assert state["param_groups"][0]["lr"] == pytest.approx(rate * (0.02 + 0.98 * wave), rel=1e-6)
    steps = {
        name: {float(s["step"]) for s in state["optimizers"]["fields"]["state"].values()}
        for name, state in (("before", before), ("after", after))
    }
    assert steps == {"before": {61.0}, "after": {71.0}}
    losses = scalars(config_of(work, "resumed"), "Train Loss Dict/rgb_loss_fine")
    fresh = scalars(config_of(work, "shared"), "Train Loss Dict/rgb_loss_fine")
    assert min(losses) > 60
    assert max(losses.values()) < 0.7 * fresh[0]


def test_no_command_asks_for_the_network_or_for_weights(work: Path, runs: dict[str, Finished]) -> None:
    assert not (work / "torch").exists()
    for name in ("shared", "resumed"):
        state = torch.load(
            sorted((config_of(work, name).parent / "nerfstudio_models").iterdir())[-1], weights_only=True
        )
        assert not [key for key in state["pipeline"] if "lpips" in key]


# ------------------------------------------------------------------------------------------ what follows


@pytest.fixture(scope="session")
def products(work: Path, runs: dict[str, Finished]) -> dict[str, Finished]:
    """Results of the other commands on the trained runs."""
    if shutil.which("ffmpeg") is None:
        # ns-render looks for ffmpeg before it renders images too, though it does not run it for them.
        tools = work / "bin"
        tools.mkdir(exist_ok=True)
        (tools / "ffmpeg").write_text("#!/bin/sh\nexit 1\n")
        (tools / "ffmpeg").chmod(0o755)
    shared, capture = config_of(work, "shared"), config_of(work, "capture", "bn-nerf")
    pose = np.eye(4)
    pose[2, 3] = 4
    (work / "path.json").write_text(
        json.dumps(
            {
                "camera_type": "perspective",
                "render_width": 24,
                "render_height": 16,
                "seconds": 1,
                "camera_path": [
                    {"camera_to_world": (pose @ turn).flatten().tolist(), "fov": 40, "aspect": 1.5}
                    for turn in (np.eye(4), np.diag([-1, -1, 1, 1]))
                ],
            }
        )
    )
    points = ("--num-points", 400, "--num-rays-per-batch", 2048)
    images = ("--output-format", "images", "--rendered-output-names", "rgb", "depth", "accumulation")
    return run_all(
        work,
        {
            # The longest commands come first, so that two workers finish together.
            "poisson": (
                *("ns-export", "poisson", "--load-config", shared, "--output-dir", "poisson", *points),
                *("--texture-method", "point_cloud"),
            ),
            "tsdf": (
                *("ns-export", "tsdf", "--load-config", shared, "--output-dir", "tsdf"),
                *("--resolution", 32, 32, 32, "--num-pixels-per-side", 64, "--target-num-faces", 300),
            ),
            "pointcloud": (
                *("ns-export", "pointcloud", "--load-config", shared, "--output-dir", "pointcloud", *points),
            ),
            "eval": ("ns-eval", "--load-config", shared, "--output-path", "eval.json"),
            "eval capture": (
                *("ns-eval", "--load-config", capture, "--output-path", "capture.json"),
                *("--render-output-path", "eval"),
            ),
            "camera-path": (
                *("ns-render", "camera-path", "--load-config", shared, "--output-path", "path", *images),
                *("--camera-path-filename", "path.json"),
            ),
            "interpolate": (
                *("ns-render", "interpolate", "--load-config", capture, "--output-path", "tour", *images),
                *("--pose-source", "train", "--interpolation-steps", 2, "--image-format", "png"),
            ),
            "dataset": (
                *("ns-render", "dataset", "--load-config", shared, "--output-path", "dataset"),
                *("--split", "train+test", "--image-format", "png"),
                *("--rendered-output-names", "rgb", "rgba", "raw-depth"),
            ),
            "mesh": (
                *("bn-export", "marching-cubes", "--load-config", shared, "--output-dir", "mesh"),
                *("--resolution", 48, "--threshold", 1),
            ),
            "mesh in scaled frame": (
                *("bn-export", "marching-cubes", "--load-config", capture, "--output-dir", "scaled"),
                *("--resolution", 16, "--threshold", 0.3, "--filename", "mesh.obj"),
            ),
            "mesh in world frame": (
                *("bn-export", "marching-cubes", "--load-config", capture, "--output-dir", "world"),
                *("--resolution", 16, "--threshold", 0.3, "--filename", "mesh.obj", "--save-world-frame"),
            ),
        },
        fresh={"eval", "camera-path", "pointcloud", "mesh"},
    )


def test_ns_eval_gives_the_psnr_of_the_end_of_training(work: Path, products: dict[str, Finished]) -> None:
    products["eval"].check()
    results = json.loads((work / "eval.json").read_text())
    assert results["checkpoint"].endswith(f"step-{STEPS - 1:09d}.ckpt")
    (at_the_end,) = scalars(config_of(work, "shared"), "Eval Images Metrics Dict (all images)/psnr").values()
    assert results["results"]["psnr"] == pytest.approx(at_the_end, abs=0.01)
    assert results["results"]["psnr"] > 13
    assert "lpips" not in results["results"]


def test_ns_eval_writes_pictures_of_a_capture(work: Path, products: dict[str, Finished]) -> None:
    products["eval capture"].check()
    assert math.isfinite(json.loads((work / "capture.json").read_text())["results"]["psnr"])
    assert {path.name.split("_")[1] for path in (work / "eval").iterdir()} == {"img", "depth", "accumulation"}


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(float) / 255


def test_ns_render_of_a_camera_path(work: Path, products: dict[str, Finished]) -> None:
    products["camera-path"].check()
    frames = [picture(path) for path in sorted((work / "path").iterdir())]
    assert [frame.shape for frame in frames] == [(16, 3 * 24, 3)] * 2  # three outputs side by side
    # The second camera is the first one turned upside down.
    assert np.abs(frames[0][:, :24] - frames[1][::-1, :24][:, ::-1]).mean() < 0.02
    assert frames[0][:, :24].std() > 0.02


def test_ns_render_of_an_interpolated_path(work: Path, products: dict[str, Finished]) -> None:
    products["interpolate"].check()
    frames = [picture(path) for path in sorted((work / "tour").iterdir())]
    assert len(frames) == 2 * 11 - 2
    assert {frame.shape for frame in frames} == {(32, 3 * 32, 3)}


def test_ns_render_of_the_data_set(work: Path, products: dict[str, Finished]) -> None:
    """The test views come out with the PSNR that ns-eval reports."""
    products["dataset"].check()
    for split, num in (("train", 8), ("test", 2)):
        assert len(list((work / "dataset" / split / "rgb").iterdir())) == num
    errors = []
    for path in sorted((work / "dataset/test/rgb").iterdir()):
        true = picture(work / "blender/test" / path.name)
        on_white = true[..., :3] * true[..., 3:] + 1 - true[..., 3:]
        rgba = picture(work / "dataset/test/rgba" / path.name)
        assert rgba[..., 3].min() < 0.05  # the background is transparent
        rgb = picture(path)
        assert np.abs(rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:] - rgb).max() < 0.02
        errors.append(-10 * math.log10(np.square(rgb - on_white).mean()))
    expected = json.loads((work / "eval.json").read_text())["results"]["psnr"]
    assert np.mean(errors) == pytest.approx(expected, abs=0.05)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="videos need ffmpeg, which is not installed")
def test_ns_render_of_a_video(work: Path) -> None:
    run(
        *(work, "ns-render", "interpolate", "--load-config", config_of(work, "shared")),
        *("--output-path", "tour.mp4", "--interpolation-steps", 2),
    ).check()
    assert (work / "tour.mp4").stat().st_size > 1000


def test_ns_export_of_a_point_cloud_leaves_the_background_out(
    work: Path, products: dict[str, Finished]
) -> None:
    products["pointcloud"].check()
    cloud = trimesh.load(work / "pointcloud/point_cloud.ply")
    assert len(cloud.vertices) >= 300
    # The scene stands in [-1, 1]. Points of the background would lie at the far faces of the box, and be
    # white.
    assert np.abs(cloud.vertices).max() <= 1.501
    assert np.quantile(np.abs(cloud.vertices).max(axis=1), 0.9) < 1.2
    assert (cloud.colors[:, :3] > 250).all(axis=1).mean() < 0.1
    normals = read_normals(work / "pointcloud/point_cloud.ply")
    assert np.abs(np.linalg.norm(normals, axis=1) - 1).max() < 1e-3
    assert len(np.unique(cloud.colors, axis=0)) > 50


def read_normals(path: Path) -> np.ndarray:
    vertices = trimesh.load(path).metadata["_ply_raw"]["vertex"]["data"]
    return np.stack([np.asarray(vertices[name]).squeeze() for name in ("nx", "ny", "nz")], axis=1)


def test_ns_export_of_a_poisson_surface(work: Path, products: dict[str, Finished]) -> None:
    products["poisson"].check()
    assert len(trimesh.load(work / "poisson/poisson_mesh.ply").faces) > 100


def test_ns_export_of_a_textured_tsdf_surface(work: Path, products: dict[str, Finished]) -> None:
    products["tsdf"].check()
    mesh = trimesh.load(work / "tsdf/mesh.obj", force="mesh")
    assert len(mesh.faces) > 50
    assert np.abs(mesh.vertices).max() <= 1.1
    assert picture(work / "tsdf/material_0.png").std() > 0.02


def test_bn_export_of_marching_cubes(work: Path, products: dict[str, Finished]) -> None:
    products["mesh"].check()
    mesh = trimesh.load(work / "mesh/density_mesh.ply")
    assert mesh.is_watertight
    assert len(mesh.faces) > 100
    assert len(np.unique(mesh.visual.vertex_colors, axis=0)) > 20
    assert f"{len(mesh.faces):,} triangles" in products["mesh"].out


def test_bn_export_in_the_frame_of_the_capture(work: Path, products: dict[str, Finished]) -> None:
    """Oracle: the transform that nerfstudio writes beside the config."""
    products["mesh in scaled frame"].check()
    products["mesh in world frame"].check()
    scaled, world = (trimesh.load(work / name / "mesh.obj", force="mesh") for name in ("scaled", "world"))
    transform = json.loads(
        (config_of(work, "capture", "bn-nerf").parent / "dataparser_transforms.json").read_text()
    )
    matrix = np.array(transform["transform"])
    assert abs(transform["scale"] - 1) > 0.01
    expected = transform["scale"] * (world.vertices @ matrix[:, :3].T + matrix[:, 3])
    np.testing.assert_allclose(scaled.vertices, expected, atol=1e-4)
    np.testing.assert_array_equal(scaled.faces, world.faces)


# ------------------------------------------------------------------------------------- mistakes of the user


def edited(work: Path, name: str, edit: Callable[[str], str]) -> Path:
    """A copy of the shared run whose config.yml was changed."""
    source = config_of(work, "shared")
    target = config_of(work, name)
    target.parent.mkdir(parents=True)
    text = source.read_text().replace("experiment_name: shared", f"experiment_name: {name}")
    changed = edit(text)
    assert changed != text
    target.write_text(changed)
    os.symlink(source.parent / "nerfstudio_models", target.parent / "nerfstudio_models")
    return target


def copied(work: Path, name: str, damage: Callable[[Path], object]) -> Path:
    """A copy of the Blender data that was damaged."""
    damage(shutil.copytree(work / "blender", work / name))
    return Path(name)


def without_frames(folder: Path) -> None:
    (folder / "transforms_train.json").write_text(json.dumps({"camera_angle_x": 0.5, "frames": []}))


def first_image(folder: Path) -> Path:
    return min((folder / "train").glob("*.png"))


def cut_off(folder: Path) -> None:
    first_image(folder).write_bytes(first_image(folder).read_bytes()[:100])


def enlarge(folder: Path) -> None:
    Image.open(first_image(folder)).resize((40, 40)).save(first_image(folder))


MISTAKES = {
    "missing data": "data path nowhere does not exist",
    "empty data": "empty is empty",
    "no frames": "transforms_train.json has no frames",
    "unreadable image": "cannot read the image",
    "unequal sizes": "images of one size",
    "missing load-dir": "--load-dir nowhere is no folder",
    "one sample": "raise the number of rays, samples or points per step",
    "checkpoint of another norm": "--pipeline.model.norm",
    "checkpoint of another width": "another width",
    "broken checkpoint": "is broken: train anew",
    "unknown norm in a config": "choose one of none, batch, layer, global, cross",
    "missing config": "--load-config nowhere.yml: no such file",
    "unknown mesh format": "use .ply, .obj, .stl or .glb",
    "threshold that no density has": "--threshold is 1e+09",
    "rays that processes cannot share": "256 cannot be shared evenly by 3 processes: choose 255 or 258",
}
"""Words that the error line of each mistake must have."""


@pytest.fixture(scope="session")
def mistakes(work: Path) -> dict[str, Finished]:
    (work / "empty").mkdir()
    width = edited(work, "width", lambda text: text.replace("width: 64", "width: 48"))
    norm = edited(work, "norm", lambda text: text.replace("norm: batch", "norm: layer"))
    broken = edited(work, "broken", lambda text: text + "\n")
    checkpoints = broken.parent / "nerfstudio_models"
    newest = max(checkpoints.glob("*.ckpt"))
    half, name = newest.read_bytes()[: newest.stat().st_size // 2], newest.name
    checkpoints.unlink()  # it is a link to the shared run's folder
    checkpoints.mkdir()
    (checkpoints / name).write_bytes(half)
    unknown = edited(work, "unknown", lambda text: text.replace("norm: batch", "norm: wavelet"))

    def train(*options: object) -> tuple[object, ...]:
        return training("bn-nerf-small", "mistake", "--max-num-iterations", 2, *options)

    def export(config: Path, *options: object) -> tuple[object, ...]:
        return ("bn-export", "marching-cubes", "--load-config", config, "--output-dir", "mistake", *options)

    one = ("--pipeline.datamanager.train-num-rays-per-batch", 1, "--pipeline.model.num-coarse-samples", 1)
    good = config_of(work, "shared")
    return run_all(
        work,
        {
            "missing data": train("--data", "nowhere"),
            "empty data": train("--data", "empty"),
            "no frames": train("--data", copied(work, "no-frames", without_frames)),
            "unreadable image": train("--data", copied(work, "unreadable", cut_off)),
            "unequal sizes": train("--data", copied(work, "unequal", enlarge)),
            "missing load-dir": train("--data", "blender", "--load-dir", "nowhere"),
            "one sample": train("--data", "blender", *one),
            "checkpoint of another norm": ("ns-eval", "--load-config", norm),
            "checkpoint of another width": ("ns-eval", "--load-config", width),
            "broken checkpoint": ("ns-eval", "--load-config", broken),
            "unknown norm in a config": ("ns-eval", "--load-config", unknown),
            "unknown norm": train("--data", "blender", "--pipeline.model.norm", "wavelet"),
            "rays that processes cannot share": train("--data", "blender", "--machine.num-devices", 3),
            "missing config": export(Path("nowhere.yml")),
            "unknown mesh format": export(good, "--filename", "mesh.blend"),
            "threshold that no density has": export(good, "--threshold", 1e9, "--resolution", 8),
        },
        fresh={"missing data", "checkpoint of another norm", "missing config"},
    )


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_end_with_one_line_and_code_2(name: str, mistakes: dict[str, Finished]) -> None:
    done = mistakes[name]
    assert done.code == 2, done.err
    errors = [line for line in (done.out + done.err).splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert MISTAKES[name] in errors[0]
    assert "Traceback" not in done.out + done.err


def test_an_unknown_norm_is_told_with_those_that_there_are(mistakes: dict[str, Finished]) -> None:
    """The command line's parser prints this error, in a form of its own."""
    done = mistakes["unknown norm"]
    assert done.code == 2
    assert "--pipeline.model.norm" in done.err
    for norm in ("none", "batch", "layer", "global", "cross"):
        assert norm in done.err
    assert "Traceback" not in done.out + done.err


# ------------------------------------------------------------------------------------------------- CUDA


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float16 with loss scaling"])
def test_mixed_precision_trains_on_cuda(precision: str, work: Path) -> None:
    words = training("bn-nerf", "mixed", "--data", "blender", "--max-num-iterations", 31, *TINY)
    run(work, *words, "--mixed-precision", True).check()
    config = config_of(work, "mixed", "bn-nerf")
    losses = scalars(config, "Train Loss Dict/rgb_loss_fine")
    assert losses[30] < losses[0]
    state = checkpoint(config, 30)
    assert state["scalers"]["scale"] > 0
    assert all(value.dtype != torch.float16 for value in state["pipeline"].values())
    run(work, "ns-eval", "--load-config", config, "--output-path", "mixed.json").check()
