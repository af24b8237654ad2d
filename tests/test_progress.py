"""Every item is yielded in its order, whether progress is shown or not."""

from __future__ import annotations

import pytest

from bn_field_plugin.progress import silent, track


def test_items_come_and_a_log_has_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(silent([3, 1, 2], "kernel")) == list(track([3, 1, 2], "kernel")) == [3, 1, 2]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == ["kernel: 3 to do", "kernel: done"]


def test_items_without_a_length_come_with_their_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(iter("ab"), "letters", 2)) == ["a", "b"]
    assert capsys.readouterr().err.startswith("letters: 2 to do")


def test_a_terminal_has_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert list(track([3, 1, 2], "kernel")) == [3, 1, 2]
    assert "3/3" in capsys.readouterr().err
