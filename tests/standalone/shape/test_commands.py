"""`bn-shape` as a user types it: from mesh to field to mesh, comparisons, and mistakes in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from standalone.shape.cli import main
from standalone.shape.page import ShapePage

SMALL = ["--width", "16", "--depth", "2", "--network", "pemlp-1", "--points", "1024"]
QUICK = ["--resolution", "24", "--iou-points", "16384", "--surface-points", "2000"]


@pytest.fixture(scope="module")
def ball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shapes") / "ball.ply"
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=5.0)
    mesh.vertices += 100.0
    mesh.export(path)
    return path


@pytest.fixture(scope="module")
def fitted(ball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fit") / "ball"
    main(
        [
            "fit",
            str(ball),
            "--output-dir",
            str(folder),
            "--steps",
            "100",
            "--eval-every",
            "50",
            *SMALL,
            *QUICK,
        ]
    )
    return folder


@pytest.mark.slow
def test_a_fit_leaves_what_its_help_names(fitted: Path) -> None:
    names = {path.name for path in fitted.iterdir()}
    assert names == {
        *("shape.pt", "mesh.ply", "picture.png", "curve.csv", "curve.png", "metrics.json"),
        *("checkpoint.pt", "config.yaml", "input.json"),
    }
    metrics = json.loads((fitted / "metrics.json").read_text())
    assert metrics["iou_uniform"] > 0.85
    assert metrics["steps"] == 100
    mesh = trimesh.load(fitted / "mesh.ply")
    np.testing.assert_allclose(mesh.bounds.mean(axis=0), 100, atol=0.7)
    assert Image.open(fitted / "picture.png").width > 400


@pytest.mark.slow
def test_a_mesh_comes_back_in_its_own_units(fitted: Path, tmp_path: Path) -> None:
    main(["mesh", str(fitted), str(tmp_path / "out.glb"), "--resolution", "40"])
    mesh = trimesh.load(tmp_path / "out.glb", force="mesh")
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 125, rel=0.15)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_view_names_the_network_that_was_trained(
    fitted: Path, ball: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page names the norm, though it has been folded away."""
    told = []

    def look(page: ShapePage) -> None:
        told.append(page._status.content)
        page.close()

    monkeypatch.setattr("standalone.shape.commands.wait_on", look)
    main(["view", str(fitted), str(ball), "--resolution", "16"])
    assert told[0].startswith("PEMLP-1 + BN\n")


@pytest.mark.slow
def test_a_finished_fit_resumes_to_itself(fitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = json.loads((fitted / "metrics.json").read_text())
    main(["fit", "--resume", str(fitted)])
    after = json.loads((fitted / "metrics.json").read_text())
    assert after["iou_uniform"] == before["iou_uniform"]


@pytest.mark.slow
def test_a_comparison_has_pictures_table_and_curves(ball: Path, tmp_path: Path) -> None:
    command = [
        "compare",
        str(ball),
        "--output-dir",
        str(tmp_path),
        "--variants",
        "mlp",
        "mlp+bn",
        "--steps",
        "30",
    ]
    main([*command, "--width", "16", "--depth", "2", "--points", "512", *QUICK])
    record = json.loads((tmp_path / "compare.json").read_text())
    assert [row["network"] for row in record["rows"]] == ["MLP", "MLP + BN"]
    assert {"compare.png", "curves.png", "compare.md", "compare.csv"} <= {p.name for p in tmp_path.iterdir()}
    assert "--variants mlp mlp+bn" in record["command"]
    assert "--steps 30" in record["command"]


@pytest.mark.slow
def test_an_open_mesh_is_fitted_and_said_to_be_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A box without its lid, in UTM coordinates; the output has all of their digits."""
    corners = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4)]
    lines = [f"v {x + 500000.25} {y + 4000000.5} {z}" for x, y, z in corners]
    lines += ["f " + " ".join(str(i + 1) for i in quad) for quad in quads]
    (tmp_path / "crate.obj").write_text("\n".join(lines))
    folder = tmp_path / "fit"
    command = ["fit", str(tmp_path / "crate.obj"), "--output-dir", str(folder), "--steps", "60"]
    main([*command, *SMALL, *QUICK])
    notes = json.loads((folder / "metrics.json").read_text())["notes"]
    assert "crate.obj is open (4 edges)" in notes[0]
    assert notes[0] in capsys.readouterr().out
    mesh = trimesh.load(folder / "mesh.ply", process=False)
    assert len(np.unique(mesh.vertices[:, 1])) > 20
    np.testing.assert_allclose(mesh.bounds.mean(axis=0), [500000.75, 4000001.0, 0.5], atol=0.2)
    main(["mesh", str(folder), str(tmp_path / "crate.stl"), "--resolution", "24"])
    assert "STL has 32-bit coordinates" in capsys.readouterr().out


@pytest.mark.slow
def test_help_teaches() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "standalone.shape", "fit", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    for words in ("--repair", "--time-limit", "--near-surface", "Example: bn-shape fit"):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["fit", "none.ply"], "none.ply does not exist"),
        (["fit", "--steps", "0"], "--steps is 0"),
        (["fit", "--network", "pemlp"], "the network 'pemlp' is unknown"),
        (["fit", "--points", "1"], "--points is 1"),
        (["fit", "--threshold", "0.3"], "--threshold is for volumes"),
        (["fit", "--inside", "below"], "--inside is for volumes"),
        (["fit", "--config", "none.yaml"], "the config none.yaml cannot be read"),
        (["fit", "--resume", "none"], "--resume none: there is no config.yaml"),
        (["mesh", "none", "out.ply"], "there is no checkpoint"),
        (["mesh", "none", "out.blend"], "unknown mesh format"),
        (["view", "none", "--resolution", "2"], "--resolution is 2"),
        (["compare", "--variants", "mlp+x"], "the norm 'x' is unknown"),
        (["fit", "--network", "gauss", "--omega", "5"], "--omega is an option of siren, finer"),
        (["compare", "--variants", "wire+bn"], "real numbers"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    args: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_every_preset_is_one_of_the_command(repository: Path) -> None:
    from standalone.shape.cli import COMMAND_LINE

    presets = sorted((repository / "standalone" / "configs" / "shape").glob("*.yaml"))
    assert presets
    for preset in presets:
        command = COMMAND_LINE.parse(["fit", "--config", str(preset), "--seed", "7"])
        assert command.run.seed == 7
