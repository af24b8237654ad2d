"""The tests' own reading of logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.viewer.serving import tracebacks

VISER = """Traceback (most recent call last):
  File "/lib/viser/infra/_infra.py", line 546, in wrapped
    inner()
  File "/lib/viser/_gui_api.py", line 253, in _handle_gui_updates
    client = self._owner.get_clients()[client_id]
             ~~~~~~~~~~~~~~~~~~~~~~~~~^^^^^^^^^^^
KeyError: 0
"""
OURS = """Traceback (most recent call last):
  File "/lib/viser/infra/_infra.py", line 546, in wrapped
    inner()
  File "/bn_field_plugin/viewer/panel.py", line 100, in update
    1 / 0
ZeroDivisionError: division by zero
"""
PYTHON = """Traceback (most recent call last):
  File "/lib/python/threading.py", line 1, in join
KeyboardInterrupt
"""


@pytest.mark.parametrize(
    ("log", "count"),
    [("", 0), (VISER, 0), (OURS, 1), (PYTHON, 1), (f"a\n{VISER}b\n{OURS}(viser) c\n{VISER}", 1)],
)
def test_tracebacks_in_which_viser_alone_takes_part_are_left_out(
    tmp_path: Path, log: str, count: int
) -> None:
    file = tmp_path / "log.txt"
    file.write_text(log)
    assert len(tracebacks(file)) == count
