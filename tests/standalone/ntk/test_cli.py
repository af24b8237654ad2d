from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from standalone.ntk.cli import COMMANDS, main


def exit_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit status and last lines of standard error."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return int(stopped.value.code or 0), capsys.readouterr().err


def test_spectrum_shows_coupled_and_frozen_side_by_side(tmp_path: Path) -> None:
    main(["spectrum", "--side", "6", "--width", "16", "--out-dim", "2", "--output-dir", str(tmp_path)])
    saved = np.load(tmp_path / "spectrum.npz")
    assert saved["batch"].shape == saved["frozen"].shape == (72,)
    rows = json.loads((tmp_path / "spectrum.json").read_text())["rows"]
    assert [row["statistics"] for row in rows] == ["batch", "frozen"]
    assert rows[0]["mean"] == pytest.approx(saved["batch"].mean())
    assert (tmp_path / "spectrum.png").exists()


def test_spectrum_without_coupling_is_one(tmp_path: Path) -> None:
    main(["spectrum", "--network", "pemlp-2+layer", "--random", "20", "--output-dir", str(tmp_path)])
    assert len(json.loads((tmp_path / "spectrum.json").read_text())["rows"]) == 1


def test_spectrum_without_a_matrix(tmp_path: Path) -> None:
    options = ["--side", "6", "--width", "16", "--seed", "1"]
    main(["spectrum", *options, "--output-dir", str(tmp_path / "exact")])
    main(
        ["spectrum", *options, "--route", "matrix-free", "--top", "3", "--output-dir", str(tmp_path / "free")]
    )
    exact, free = (np.load(tmp_path / name / "spectrum.npz") for name in ("exact", "free"))
    np.testing.assert_allclose(free["batch"], exact["batch"][:3], rtol=1e-6)
    assert free["batch_density_weights"].sum() == pytest.approx(1)


def make_module() -> nn.Module:
    """What `--module` calls below."""
    return nn.Sequential(nn.Linear(2, 8), nn.GELU(), nn.Linear(8, 1))


def test_spectrum_of_a_module_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = f"{__name__}:make_module"
    main(["spectrum", "--module", reference, "--side", "4", "--output-dir", str(tmp_path)])
    assert np.load(tmp_path / "spectrum.npz")["batch"].shape == (16,)
    for wrong in ("nothing", "no.such.module:f", f"{__name__}:absent", f"{__name__}:exit_of", "os:getcwd"):
        status, message = exit_of(["spectrum", "--module", wrong, "--side", "4"], capsys)
        assert status == 2 and wrong in message


def test_points_of_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "points.npy", np.random.default_rng(0).uniform(-1, 1, (9, 3)))
    main(["spectrum", "--points", str(tmp_path / "points.npy"), "--output-dir", str(tmp_path)])
    assert np.load(tmp_path / "spectrum.npz")["batch"].shape == (9,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["spectrum", "--network", "nope"], "'nope' is unknown"),
        (["spectrum", "--side", "1"], "too few"),
        (["spectrum", "--points", "absent.npy"], "absent.npy"),
        (["spectrum", "--random", "100000", "--depth", "1", "--route", "kernel"], "the route kernel"),
        (["dynamics", "--rate", "3"], "--rate is 3"),
        (["scaling", "--sizes", "8"], "--sizes"),
        (["checkpoint", "--load-config", "absent.yml"], "absent.yml"),
        (["checkpoint", "--load-config", "absent.yml", "--samples", "1"], "--samples"),
    ],
)
def test_mistakes_end_with_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "results"
    status, text = exit_of([*arguments, "--output-dir", str(folder)], capsys)
    assert status == 2
    assert text.startswith("error: ") and message in text and len(text.splitlines()) == 1
    assert not folder.exists()


def test_help_names_every_command_and_loads_no_plots() -> None:
    code = (
        "import sys; from standalone.ntk.cli import main\ntry: main(['--help'])\nfinally: print([m for m in "
        "('matplotlib', 'scipy', 'nerfstudio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "standalone.ntk", "figure", "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "--size.width" in done.stdout
