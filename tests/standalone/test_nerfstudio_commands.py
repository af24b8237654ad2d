"""Running nerfstudio's commands: what a log tells of the steps done, and who looks on."""

from pathlib import Path

import pytest

from standalone.nerfstudio_commands import run_command, share_done


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0.0),
        ("loading\n", 0.0),
        ("Step (% Done)\n10 (2.00%)   70 ms\n20 (4.50%)   71 ms\n", 0.045),
        ("499 (99.80%)\nx" + 5000 * "y" + "\n", 0.0),  # only the end is read
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
