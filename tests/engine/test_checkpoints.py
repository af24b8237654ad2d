"""Checkpoint files: whole or absent, whatever happens while one is written."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nerfstudio.utils.eval_utils import eval_load_checkpoint

from bn_field_plugin.engine.checkpoints import (
    check_newest,
    checkpoint_name,
    is_whole,
    latest_checkpoint,
    list_checkpoints,
    load_checkpoint,
    remove_partial_files,
    save_atomically,
)
from bn_field_plugin.errors import UserError
from tests.engine.tiny import TinyPipeline, TinyPipelineConfig, config

WRITE_FOREVER = """
import sys, torch
from pathlib import Path
from bn_field_plugin.engine.checkpoints import checkpoint_name, save_atomically
from tests.engine.tiny import TinyPipeline, TinyPipelineConfig
pipeline = TinyPipeline(TinyPipelineConfig(), "cpu")
ballast = torch.zeros(40_000_000)
for step in range(1000):
    state = {"step": step, "pipeline": pipeline.state_dict(), "optimizers": ballast, "scalers": {}}
    save_atomically(state, Path(sys.argv[1]) / checkpoint_name(step))
    print(step, flush=True)
"""

FILL_THE_DISK = """
import resource, signal, sys, torch
from pathlib import Path
from bn_field_plugin.engine.checkpoints import save_atomically
from bn_field_plugin.errors import exit_on_user_error
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails then, as it does on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
with exit_on_user_error():
    save_atomically({"weights": torch.zeros(100_000)}, Path(sys.argv[1]))
"""


def a_state(step: int = 0) -> dict:
    return {
        "step": step,
        "pipeline": {"_model.w": torch.arange(1000.0)},
        "optimizers": {},
        "schedulers": {},
        "scalers": {},
    }


def everything_under(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "models" / checkpoint_name(7)
    save_atomically(a_state(7), path)
    loaded = load_checkpoint(path)
    assert loaded["step"] == 7
    assert torch.equal(loaded["pipeline"]["_model.w"], torch.arange(1000.0))
    assert everything_under(tmp_path) == {"models/step-000000007.ckpt"}


def test_a_newer_file_of_the_same_name_replaces_the_older(tmp_path: Path) -> None:
    path = tmp_path / "models" / checkpoint_name(1)
    for value in (1, 2):
        save_atomically({**a_state(), "scalers": {"scale": value}}, path)
    assert load_checkpoint(path)["scalers"] == {"scale": 2}


def test_numpy_scalars_become_plain_numbers(tmp_path: Path) -> None:
    """Nerfstudio's commands load with weights only, which refuses numpy's."""
    path = tmp_path / "models" / checkpoint_name(0)
    rates = {
        "last": [np.float64(0.5)],
        "pair": (np.float32(0.25), np.int64(3)),
        np.str_("key"): np.bool_(True),
    }
    save_atomically({**a_state(), "schedulers": {"fields": rates}}, path)
    loaded = torch.load(path, weights_only=True)["schedulers"]["fields"]
    assert loaded == {"last": [0.5], "pair": (0.25, 3), "key": True}
    assert [type(value) for value in (*loaded["last"], *loaded["pair"])] == [float, float, int]


def test_files_get_the_rights_that_the_user_gives_to_files(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    path = tmp_path / "models" / checkpoint_name(0)
    save_atomically(a_state(), path)
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.slow
def test_a_kill_while_writing_leaves_the_last_whole_checkpoint(tmp_path: Path, repository: Path) -> None:
    """A real SIGKILL inside a real write, and nerfstudio's own loader afterwards."""
    run = config(tmp_path)
    run.load_dir = models = run.get_checkpoint_dir()
    for _ in range(30):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITE_FOREVER, str(models)],
            cwd=repository,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        writer.stdout.readline()  # one checkpoint is whole
        deadline = time.monotonic() + 60
        while not list(models.parent.glob(".step-*")) and time.monotonic() < deadline:
            pass
        time.sleep(0.01)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        if list(models.parent.glob(".step-*")):
            break
    else:
        pytest.fail("no kill landed inside a write")
    partial = next(iter(models.parent.glob(".step-*")))
    assert not is_whole(partial)
    newest = latest_checkpoint(models)
    assert newest is not None
    assert set(models.iterdir()) == set(list_checkpoints(models))
    path, _ = eval_load_checkpoint(run, TinyPipeline(TinyPipelineConfig(), "cpu"))
    assert path == newest
    assert remove_partial_files(models) == [partial]
    assert not partial.exists()


@pytest.mark.slow
def test_a_full_disk_is_told_in_one_line_and_older_checkpoints_stay(tmp_path: Path, repository: Path) -> None:
    models = tmp_path / "models"
    save_atomically(a_state(), models / checkpoint_name(0))
    target = models / checkpoint_name(1)
    done = subprocess.run(
        [sys.executable, "-c", FILL_THE_DISK, str(target)],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"error: cannot write checkpoint {target} (File too large): free disk space"
    )
    assert done.stderr.count("\n") == 1
    assert everything_under(tmp_path) == {"models/step-000000000.ckpt"}
    assert latest_checkpoint(models) == models / checkpoint_name(0)


def test_a_state_that_cannot_be_pickled_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="pickle"):
        save_atomically({"f": lambda: None}, tmp_path / "models" / checkpoint_name(0))
    assert everything_under(tmp_path) == set()


def test_the_file_of_a_living_writer_stays(tmp_path: Path) -> None:
    code = """
        import fcntl, sys, time
        file = open(sys.argv[1], "wb")
        fcntl.flock(file, fcntl.LOCK_EX)
        print("locked", flush=True)
        time.sleep(60)
    """
    living = tmp_path / ".step-000000001.a.partial.ckpt"
    dead = tmp_path / ".step-000000001.b.partial.ckpt"
    dead.touch()
    others = [tmp_path / "config.yml", tmp_path / "models" / checkpoint_name(0)]
    others[1].parent.mkdir()
    for other in others:
        other.touch()
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(living)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout is not None
        writer.stdout.readline()
        assert remove_partial_files(tmp_path / "models") == [dead]
        assert living.exists()
    finally:
        writer.kill()
        writer.communicate()
    assert remove_partial_files(tmp_path / "models") == [living]
    assert all(other.exists() for other in others)


def test_checkpoints_are_listed_by_step_and_nothing_else_is(tmp_path: Path) -> None:
    steps = [1_000_000_000, 20, 3, 999_999_999]
    for name in [checkpoint_name(step) for step in steps] + [
        "step-12.ckpt",
        "best.ckpt",
        "step-000000001.ckpt.tmp",
    ]:
        (tmp_path / name).touch()
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        checkpoint_name(step) for step in sorted(steps)
    ]
    assert list_checkpoints(tmp_path / "absent") == []


def test_broken_checkpoints_are_skipped_with_a_line(tmp_path: Path, capsys) -> None:
    save_atomically(a_state(1), tmp_path / checkpoint_name(1))
    content = (tmp_path / checkpoint_name(1)).read_bytes()
    (tmp_path / checkpoint_name(2)).write_bytes(content[: len(content) // 2])
    (tmp_path / checkpoint_name(3)).touch()
    assert latest_checkpoint(tmp_path) == tmp_path / checkpoint_name(1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(checkpoint_name(step) in line for step, line in zip((3, 2), lines, strict=True))


def test_a_broken_newest_checkpoint_is_named_with_the_one_before(tmp_path: Path) -> None:
    check_newest(tmp_path / "absent")
    save_atomically(a_state(1), tmp_path / checkpoint_name(1))
    check_newest(tmp_path)
    (tmp_path / checkpoint_name(2)).write_bytes(b"half")
    with pytest.raises(
        UserError, match=f"{checkpoint_name(2)} is broken: delete it, then {checkpoint_name(1)}"
    ):
        check_newest(tmp_path)
    (tmp_path / checkpoint_name(1)).write_bytes(b"half")
    with pytest.raises(UserError, match=f"{checkpoint_name(2)} is broken: train anew"):
        check_newest(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_never_whole(tmp_path: Path, share: float) -> None:
    save_atomically(a_state(), tmp_path / "models" / checkpoint_name(0))
    content = (tmp_path / "models" / checkpoint_name(0)).read_bytes()
    path = tmp_path / checkpoint_name(1)
    path.write_bytes(content[: int(share * len(content))])
    assert not is_whole(path)
    with pytest.raises(UserError, match="broken"):
        load_checkpoint(path)


def test_a_flipped_bit_in_the_weights_is_found(tmp_path: Path) -> None:
    """`torch.load` reads such a file without complaint."""
    path = tmp_path / checkpoint_name(0)
    save_atomically(a_state(), path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(1000.0).numpy().tobytes()) + 1234] ^= 1
    path.write_bytes(content)
    assert not is_whole(path)
    with pytest.raises(UserError, match="broken"):
        load_checkpoint(path)


class Opaque:
    """Something that weights-only loading refuses."""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ({**a_state(), "extra": Opaque()}, "cannot be read"),
        ({"weights": torch.zeros(2)}, "not a checkpoint of nerfstudio"),
        ([1, 2], "not a checkpoint of nerfstudio"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path, content, message: str) -> None:
    path = tmp_path / "some.ckpt"
    if content is not None:
        torch.save(content, path)
    with pytest.raises(UserError, match=f"{path}.*{message}") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_an_error_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "models").touch()
    with pytest.raises(UserError, match="cannot write checkpoint"):
        save_atomically(a_state(), tmp_path / "models" / checkpoint_name(0))
    assert os.listdir(tmp_path) == ["models"]
