"""Running nerfstudio's commands: progress is read from their logs, and LPIPS finds blank weights."""

from pathlib import Path

import pytest
import torch
from torchvision.models import AlexNet_Weights, alexnet

from bn_field_plugin.errors import UserError
from bn_field_plugin.lpips import LPIPS_WEIGHTS
from standalone.sweep.nerfstudio_commands import run_command, share_done, without_lpips
from tests.disks import full_disk


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


@pytest.fixture
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's hub folder without AlexNet."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)


@pytest.mark.usefixtures("no_weights")
def test_torchvision_finds_blank_weights_of_alexnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = without_lpips(tmp_path / "torch")
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert file.stat().st_size < 100_000
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    state = AlexNet_Weights.IMAGENET1K_V1.get_state_dict()  # as LPIPS loads them
    with torch.device("meta"):
        expected = alexnet().state_dict()
    assert {name: weights.shape for name, weights in state.items()} == {
        name: weights.shape for name, weights in expected.items()
    }
    assert without_lpips(tmp_path / "other") == {}  # those that are there do


@pytest.mark.usefixtures("no_weights")
def test_a_full_disk_is_told_in_one_line(tmp_path: Path) -> None:
    with (
        full_disk(),
        pytest.raises(UserError, match=rf"^\S*{LPIPS_WEIGHTS} cannot be written \(.*\): free space .*$"),
    ):
        without_lpips(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
