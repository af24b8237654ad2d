"""The check for system libraries, which runs before anything is installed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools import system_packages


def test_it_needs_the_standard_library_alone() -> None:
    """It runs without site-packages, as on a bare machine, and finds nothing missing here."""
    script = Path(system_packages.__file__)
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(script)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_missing_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(system_packages.LIBRARIES, "libabsent.so.7", "libabsent7")
    monkeypatch.setattr(system_packages.os, "geteuid", lambda: 1000)
    assert system_packages.main() == 2
    error = capsys.readouterr().err
    assert error.startswith("error: this machine lacks libabsent.so.7 (libabsent7)")
    assert "sudo apt-get install -y --no-install-recommends libabsent7" in error
    assert error.count("\n") == 1
