from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from standalone.ntk.cli import COMMAND_LINE, main


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
    assert (tmp_path / "spectrum.png").exists() and (tmp_path / "spectrum.html").exists()


def test_spectrum_without_coupling_is_one(tmp_path: Path) -> None:
    main(["spectrum", "--network", "pemlp-2+layer", "--random", "20", "--output-dir", str(tmp_path)])
    assert len(json.loads((tmp_path / "spectrum.json").read_text())["rows"]) == 1


@pytest.mark.slow
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
    """A function for `--module` in the tests below."""
    return nn.Sequential(nn.Linear(2, 8), nn.GELU(), nn.Linear(8, 1))


def test_spectrum_of_a_module_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = f"{__name__}:make_module"
    main(["spectrum", "--module", reference, "--side", "4", "--output-dir", str(tmp_path)])
    assert np.load(tmp_path / "spectrum.npz")["batch"].shape == (16,)
    for wrong in ("nothing", "no.such.module:f", f"{__name__}:absent", f"{__name__}:exit_of", "os:getcwd"):
        status, message = exit_of(["spectrum", "--module", wrong, "--side", "4"], capsys)
        assert status == 2 and wrong in message


def test_modules_of_the_current_folder_are_found_ready_or_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "beside_me.py").write_text("width = 4\n")
    (tmp_path / "mine_of_test.py").write_text(
        "import torch\nfrom torch import nn\nimport beside_me\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Linear(2, beside_me.width), nn.Tanh(), nn.Linear(beside_me.width, 1))\n"
        "net = ready = Net()\n"
        "def missing(): return torch.load('missing.pt')\n"
        "def wants(size): return Net()\n"
        "number = 3\n"
        "def no_module(): return 3\n"
    )
    (tmp_path / "broken_of_test.py").write_text("def f(:\n")
    (tmp_path / "needs_of_test.py").write_text("import absent_package\n")
    for name in ("mine_of_test:ready", "mine_of_test:Net", "mine_of_test.py:Net"):
        main(["spectrum", "--module", name, "--side", "3", "--output-dir", "out"])
    capsys.readouterr()
    for name, wanted in {
        "mine_of_test:missing": "missing.pt",
        "mine_of_test:wants": "missing a required argument: 'size'",
        "mine_of_test:number": "is of type int",
        "mine_of_test:no_module": "must return a torch module",
        "mine_of_test:nothing": "has no nothing",
        "broken_of_test:f": "SyntaxError",
        "needs_of_test:f": "needs absent_package, which is not installed",
        "absent_of_test:f": f"there is no absent_of_test in {tmp_path}",
        "absent_of_test.py:f": "absent_of_test.py",
    }.items():
        status, message = exit_of(["spectrum", "--module", name, "--side", "3"], capsys)
        assert status == 2 and wanted in message and message.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    options = ["--network", "mlp", "--side", "2", "--width", "4", "--depth", "1"]
    status, message = exit_of(["spectrum", *options, "--output-dir", str(tmp_path / "file" / "out")], capsys)
    assert status == 2 and "cannot be written" in message and message.count("\n") == 1


def test_a_row_that_cannot_be_held_is_left_out_and_said(tmp_path: Path) -> None:
    module = "tests.ntk.test_module_function:own_norm"
    main(["spectrum", "--module", module, "--side", "4", "--output-dir", str(tmp_path)])
    text = (tmp_path / "spectrum.md").read_text()
    assert "| batch |" in text and "| frozen |" not in text and "frozen is left out: " in text


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
        "('matplotlib', 'scipy', 'nerfstudio', 'plotly') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMAND_LINE.commands)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "standalone.ntk", "figure", "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "--size.width" in done.stdout
