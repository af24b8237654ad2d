"""All commands with the methods other than bn-nerf: train, resume, eval, render, export."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
import trimesh

from tests.captures import write_blender_capture, write_nerfstudio_capture
from tests.commands import Finished, config_of, run_all

pytestmark = pytest.mark.slow

SIZES: dict[str, tuple[object, ...]] = {
    "bn-nerfacto": (
        *("--pipeline.model.implementation", "torch", "--pipeline.model.log2-hashmap-size", 10),
        *("--pipeline.model.num-levels", 4, "--pipeline.model.max-res", 64),
        *("--pipeline.model.num-proposal-samples-per-ray", 24, 16),
        *("--pipeline.model.num-nerf-samples-per-ray", 12, "--pipeline.model.calibration-rays", 512),
    ),
    "bn-mipnerf": (
        *("--pipeline.model.num-coarse-samples", 16, "--pipeline.model.num-fine-samples", 16),
        *("--pipeline.model.calibration-rays", 512),
    ),
    "bn-ngp": (
        *("--pipeline.model.network.log2-hashmap-size", 10, "--pipeline.model.network.num-levels", 4),
        *("--pipeline.model.network.max-res", 64, "--pipeline.model.grid-resolution", 16),
        *("--pipeline.model.samples-per-step", 2048, "--pipeline.model.proposals.num-samples", 16),
        *("--pipeline.model.proposals.num-field-samples", 12, "--pipeline.model.calibration-rays", 512),
        *("--pipeline.model.freeze-norm-at", 0.5),
    ),
    "bn-neus": (
        *("--pipeline.model.num-samples", 16, "--pipeline.model.num-samples-importance", 16),
        *("--pipeline.model.calibration-rays", 512),
    ),
    "siren-nerf": (
        *("--pipeline.model.num-coarse-samples", 16, "--pipeline.model.num-fine-samples", 16),
        *("--pipeline.model.calibration-rays", 512),
    ),
    "plenoxel": (
        *("--pipeline.model.resolutions", 8, 16, "--pipeline.model.refine-at", 0.5),
        *("--pipeline.model.num-samples", 24),
    ),
}
"""Options that make a step of each method cheap."""
METHODS = tuple(SIZES)
CAPTURES = {
    "bn-nerfacto": ("--pipeline.model.proposal-norm", "batch", "--pipeline.model.predict-normals", True),
    "bn-ngp": ("--pipeline.model.camera-optimizer.mode", "SO3xR3"),
}
"""Methods that are trained on a capture too, and their options there."""


def training(method: str, name: str, *options: object) -> tuple[object, ...]:
    """Words of a short run into `outputs/NAME/METHOD/t`."""
    return (
        *("ns-train", method, "--vis", "tensorboard", "--output-dir", "outputs"),
        *("--experiment-name", name, "--timestamp", "t", "--max-num-iterations", 12),
        *("--pipeline.datamanager.train-num-rays-per-batch", 256),
        *("--pipeline.datamanager.eval-num-rays-per-batch", 256, *SIZES[method], *options),
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and, where ffmpeg is absent, a stand-in that nerfstudio finds but never runs."""
    work = tmp_path_factory.mktemp("other_methods")
    write_blender_capture(work / "blender")
    write_nerfstudio_capture(work / "capture")
    if shutil.which("ffmpeg") is None:
        (work / "bin").mkdir()
        (work / "bin/ffmpeg").write_text("#!/bin/sh\nexit 1\n")
        (work / "bin/ffmpeg").chmod(0o755)
    return work


@pytest.fixture(scope="module")
def runs(work: Path) -> dict[str, Finished]:
    """Each method trained on a bounded scene, some also on a capture."""
    commands = {m: training(m, "first", "blender-data", "--data", "blender") for m in METHODS}
    commands |= {
        f"capture {m}": training(m, "capture", *options, "nerfstudio-data", "--data", "capture")
        for m, options in CAPTURES.items()
    }
    return run_all(work, commands)


@pytest.fixture(scope="module")
def products(work: Path, runs: dict[str, Finished]) -> dict[str, Finished]:
    """Results of the other commands on the runs."""
    commands: dict[str, tuple[object, ...]] = {}
    for method in METHODS:
        config = config_of(work, "first", method)
        models = config.parent / "nerfstudio_models"
        out = Path(method)
        commands |= {
            f"resume {method}": training(
                method, "second", "--load-dir", models, "blender-data", "--data", "blender"
            ),
            f"eval {method}": ("ns-eval", "--load-config", config, "--output-path", out / "eval.json"),
            f"render {method}": (
                *("ns-render", "dataset", "--load-config", config, "--output-path", out / "views"),
                *("--split", "test", "--rendered-output-names", "rgb"),
            ),
            f"mesh {method}": (
                *("bn-export", "marching-cubes", "--load-config", config, "--output-dir", out),
                *("--resolution", 12, "--threshold", 0.05),
            ),
        }
    for method in CAPTURES:
        capture, out = config_of(work, "capture", method), Path("captured") / method
        commands[f"eval capture {method}"] = (
            *("ns-eval", "--load-config", capture, "--output-path", out / "eval.json"),
        )
        commands[f"points {method}"] = (
            *("ns-export", "pointcloud", "--load-config", capture, "--output-dir", out),
            *("--num-points", 200, "--num-rays-per-batch", 512, "--normal-method", "model_output"),
        )
    bounded = config_of(work, "first", "bn-ngp")
    commands["path"] = (
        *("ns-render", "interpolate", "--load-config", bounded, "--output-path", "path"),
        *("--output-format", "images", "--interpolation-steps", 2),
    )
    surface = config_of(work, "first", "bn-neus")
    commands["surface"] = (
        *("bn-export", "marching-cubes", "--load-config", surface, "--output-dir", "surface"),
        *("--resolution", 24),
    )
    commands["surface points"] = (
        *("ns-export", "pointcloud", "--load-config", surface, "--output-dir", "surface"),
        *("--num-points", 200, "--num-rays-per-batch", 512, "--normal-method", "model_output"),
    )
    return run_all(work, commands)


@pytest.mark.parametrize("name", [*METHODS, *(f"capture {method}" for method in CAPTURES)])
def test_it_trains(name: str, work: Path, runs: dict[str, Finished]) -> None:
    runs[name].check()
    experiment = "capture" if name.startswith("capture ") else "first"
    folder = config_of(work, experiment, name.removeprefix("capture ")).parent
    state = torch.load(folder / "nerfstudio_models/step-000000011.ckpt", weights_only=True)
    assert all(value.isfinite().all() for value in state["pipeline"].values())
    assert not [key for key in state["pipeline"] if "lpips" in key]
    freezes = "--pipeline.model.freeze-norm-at" in SIZES[name.removeprefix("capture ")]
    assert state.get("norm_is_frozen", False) == freezes


@pytest.mark.parametrize("method", METHODS)
def test_it_resumes(method: str, work: Path, products: dict[str, Finished]) -> None:
    products[f"resume {method}"].check()
    folder = config_of(work, "second", method).parent / "nerfstudio_models"
    assert [path.name for path in folder.iterdir()] == ["step-000000023.ckpt"]


@pytest.mark.parametrize("method", METHODS)
def test_it_evaluates(method: str, work: Path, products: dict[str, Finished]) -> None:
    products[f"eval {method}"].check()
    results = json.loads((work / method / "eval.json").read_text())["results"]
    assert results["psnr"] > 5
    assert math.isfinite(results["ssim"])


@pytest.mark.parametrize("method", METHODS)
def test_it_renders(method: str, work: Path, products: dict[str, Finished]) -> None:
    products[f"render {method}"].check()
    assert len(list((work / method / "views/test/rgb").iterdir())) == 2


@pytest.mark.parametrize("method", METHODS)
def test_its_density_has_a_mesh_or_a_clear_line(
    method: str, work: Path, products: dict[str, Finished]
) -> None:
    done = products[f"mesh {method}"]
    if done.code == 0:
        assert len(trimesh.load(work / method / "density_mesh.ply").faces) > 0
    else:
        assert (done.code, "--threshold" in done.err) == (2, True)


@pytest.mark.parametrize("method", CAPTURES)
def test_a_capture_evaluates_and_gives_points(method: str, work: Path, products: dict[str, Finished]) -> None:
    products[f"eval capture {method}"].check()
    products[f"points {method}"].check()
    folder = work / "captured" / method
    assert math.isfinite(json.loads((folder / "eval.json").read_text())["results"]["psnr"])
    assert len(trimesh.load(folder / "point_cloud.ply").vertices) > 100


def test_a_path_between_cameras_is_rendered(work: Path, products: dict[str, Finished]) -> None:
    products["path"].check()
    assert len(list((work / "path").rglob("*.jpg"))) == 2


def test_a_signed_distance_has_its_mesh_where_it_is_zero(work: Path, products: dict[str, Finished]) -> None:
    """After a few steps the surface is still near that of the start, a sphere of radius 0.75."""
    products["surface"].check()
    products["surface points"].check()
    mesh = trimesh.load(work / "surface/density_mesh.ply")
    assert mesh.is_watertight
    assert 0.6 < (mesh.volume / (4 / 3 * math.pi)) ** (1 / 3) < 0.9
    cloud = trimesh.load(work / "surface/point_cloud.ply")
    assert len(cloud.vertices) > 100
    assert abs(cloud.vertices).max() < 1.5
