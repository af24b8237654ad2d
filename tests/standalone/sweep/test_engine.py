"""Tasks on a real Ray on this machine, and the error where there is no Ray."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bn_field_plugin import UserError
from standalone.sweep.engine import Resources, import_ray, run_tasks, started
from standalone.sweep.nerfstudio_commands import CommandFailed, Cost, run_command

RESOURCES = Resources(jobs=2, threads=1, gpus=0)


def task(word: str) -> str:
    """A task, which runs in Ray's worker."""
    if word == "fail":
        raise CommandFailed("the end of the log")
    if word == "mistake":
        raise UserError("a mistake")
    if word == "die":
        os._exit(1)
    if word == "folder":
        return os.getcwd()
    return word.upper()


def command(log: Path) -> Cost:
    """Run a command that does not end by itself; it leaves its process id in its log."""
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    return run_command(("python", "-c", code), log)


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")")[-1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Any, seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    # A background job ignores the signal from its start, and so would Ray's workers, which need it.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    with started(RESOURCES) as ray:
        yield ray
    signal.signal(signal.SIGINT, previous)


def test_without_ray_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'bn-field-plugin\[sweep\]'"):
        import_ray()


def test_a_failed_command_shows_the_end_of_its_log(tmp_path: Path) -> None:
    code = "print(*range(50), sep='\\n'); raise SystemExit(3)"
    with pytest.raises(CommandFailed, match=r"status 3(.|\n)*\n49$"):
        run_command(("python", "-c", code), tmp_path / "log")
    with pytest.raises(CommandFailed, match="cannot be run"):
        run_command(("no-such-command",), tmp_path / "log")


@pytest.mark.slow
def test_a_task_that_fails_stops_no_other(ray: Any) -> None:
    words = ["a", "fail", "b", "mistake", "die", "folder"]
    outcomes = {one.item: (one.value, one.error) for one in run_tasks(ray, task, words, RESOURCES)}
    assert {word: outcomes[word] for word in ("a", "fail", "b", "mistake", "folder")} == {
        "a": ("A", ""),
        "fail": (None, "the end of the log"),
        "b": ("B", ""),
        "mistake": (None, "a mistake"),
        "folder": (os.getcwd(), ""),
    }
    assert "its worker was lost" in outcomes["die"][1]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for the process in /proc")
def test_an_interrupt_takes_the_commands_with_it(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    tasks = run_tasks(ray, command, logs, RESOURCES)

    def interrupted(*_: Any, **__: Any) -> Any:
        assert wait_for(lambda: all(log.is_file() and log.read_text().strip() for log in logs))
        raise KeyboardInterrupt

    calls = iter((interrupted, ray.wait))
    monkeypatch.setattr(ray, "wait", lambda *words, **options: next(calls)(*words, **options))
    with pytest.raises(KeyboardInterrupt):
        next(tasks)
    processes = [int(log.read_text()) for log in logs]
    assert wait_for(lambda: not any(is_running(process) for process in processes))
