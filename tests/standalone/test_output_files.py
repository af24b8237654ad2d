"""Files are not overwritten, unless the user asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bn_field_plugin.errors import UserError
from standalone.output_files import output_file


def test_a_free_name_is_taken(tmp_path: Path) -> None:
    usual, asked = tmp_path / "photo.png", tmp_path / "asked.png"
    assert output_file(None, usual, overwrite=False) == usual
    assert output_file(asked, usual, overwrite=False) == asked


def test_files_that_are_there_stay(tmp_path: Path) -> None:
    usual = tmp_path / "photo.v1.png"
    usual.touch()
    assert output_file(None, usual, overwrite=False) == tmp_path / "photo.v1-2.png"
    (tmp_path / "photo.v1-2.png").touch()
    assert output_file(None, usual, overwrite=False) == tmp_path / "photo.v1-3.png"
    with pytest.raises(UserError, match="is there already: give another name, or --overwrite"):
        output_file(usual, tmp_path / "other.png", overwrite=False)


def test_they_are_replaced_where_that_is_asked_for(tmp_path: Path) -> None:
    usual = tmp_path / "photo.png"
    usual.touch()
    assert output_file(usual, usual, overwrite=True) == output_file(None, usual, overwrite=True) == usual
