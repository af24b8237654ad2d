"""The options of bn-export; its real runs are in tests/test_commands.py."""

from pathlib import Path

import pytest

from bn_field_plugin.errors import UserError
from bn_field_plugin.export.cli import MarchingCubes, main


def test_too_few_grid_points_are_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--resolution is 1: it must be at least 2"):
        MarchingCubes(tmp_path / "config.yml", tmp_path, resolution=1).main()


def test_a_missing_config_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--load-config .*config.yml: no such file"):
        MarchingCubes(tmp_path / "config.yml", tmp_path).main()


def test_an_unknown_mesh_format_is_told_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text("not read")
    with pytest.raises(UserError, match=r"unknown mesh format '.max'"):
        MarchingCubes(tmp_path / "config.yml", tmp_path, filename="mesh.max").main()


def test_mistakes_end_the_command_with_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["marching-cubes", "--load-config", str(tmp_path / "no.yml"), "--output-dir", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["bn-export", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: --load-config")


def test_help_explains_every_option(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bn-export", "marching-cubes", "--help"])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "Mesh of a trained method's density" in text
    for option in ("--resolution", "--threshold", "--box-min", "--save-world-frame", "--filename"):
        assert option in text
