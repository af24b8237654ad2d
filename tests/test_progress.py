"""Every item is yielded in its order, whether progress is shown or not."""

from __future__ import annotations

import pytest

from bn_field_plugin.progress import silent, track


def test_items_come_and_a_log_has_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(silent([3, 1, 2], "kernel")) == list(track([3, 1, 2], "kernel")) == [3, 1, 2]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == ["kernel: 3 to do", "kernel: done"]
