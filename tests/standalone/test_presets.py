"""Presets: files of options that become command lines, and mistakes in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bn_field_plugin import UserError
from standalone.presets import as_arguments, dump_preset, load_preset, preset_path


def test_options_become_a_command_line() -> None:
    options = {
        "width": 28,
        "image": "a.png",
        "compile": True,
        "siren": False,
        "variants": ["mlp", "siren"],
        "lr": None,
    }
    assert as_arguments(options, "image") == [
        *("a.png", "--width", "28", "--compile", "--no-siren", "--variants", "mlp", "siren")
    ]


def test_a_dumped_preset_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(dump_preset({"batch_size": 5, "lr": None, "norm": "none"}))
    assert load_preset(path, ["batch-size", "norm"]) == {"batch-size": 5, "norm": "none"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a", "must be a mapping"),
        ("", "must be a mapping"),
        ("a: [", "no YAML"),
        ("widht: 3", "'widht' that is unknown: use width"),
        ("width: {a: 1}", "a value or a list"),
        ("width: [[1]]", "a value or a list"),
    ],
)
def test_mistakes_are_one_clear_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        load_preset(path, ["width"])


def test_a_missing_preset_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_preset(tmp_path / "absent.yaml", [])


def test_a_bare_name_is_a_preset_of_the_package_and_a_path_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert preset_path("coin", "image").read_text().startswith("# The network of COIN")
    assert preset_path("coin.yaml", "image") == Path("coin.yaml")
    assert preset_path("here/coin", "image") == Path("here/coin")
    (tmp_path / "coin").write_text("width: 3")
    assert preset_path("coin", "image") == Path("coin")


def test_an_unknown_bare_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"neither a file nor one of bn-3x256, coin, fig2, siren-3x256"):
        preset_path("cion", "image")
