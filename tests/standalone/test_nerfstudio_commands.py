"""Running nerfstudio's commands: progress is read from their logs."""

from pathlib import Path

import pytest

from standalone.nerfstudio_commands import run_command, share_done


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0.0),
        ("loading\n", 0.0),
        ("Step (% Done)\n10 (2.00%)   70 ms\n20 (4.50%)   71 ms\n", 0.045),
        ("499 (99.80%)\nx" + 5000 * "y" + "\n", 0.0),  # only the end of a log is read
    ],
)
def test_the_share_of_steps_is_that_of_the_last_line_on_them(tmp_path: Path, text: str, share: float) -> None:
    log = tmp_path / "train.log"
    log.write_text(text)
    assert share_done(log) == pytest.approx(share)


def test_a_running_command_is_watched(tmp_path: Path) -> None:
    looks: list[bool] = []
    log = tmp_path / "log"
    run_command(
        ("python", "-c", "import time; time.sleep(0.7)"), log, watch=lambda: looks.append(log.exists())
    )
    assert looks and all(looks)


def test_the_memory_of_a_command_is_its_own(tmp_path: Path) -> None:
    """Not that of the process that started it, nor that of a larger command before it."""
    sizes = (2**28, 1)
    code = "import time; x = bytes(range(256)) * ({} // 256); time.sleep(0.6)"
    large, small = (run_command(("python", "-c", code.format(size)), tmp_path / "log") for size in sizes)
    assert 2**28 < large.peak_bytes < 2**29
    assert 2**20 < small.peak_bytes < 2**27
