"""Commands with a page in the browser, started and ended."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.commands import BIN, environment

START = 180.0
"""Seconds to wait for the page, far more than needed."""


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(work: Path, log: Path, *words: object) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start a command with a viewer; yields it once its page is there, ends it at last.

    Args:
        work: its folder.
        log: file for its output.
        words: the command; options of the viewer are added.
    """
    port = free_port()
    command = [str(BIN / str(words[0])), *map(str, words[1:])]
    options = ["--viewer.websocket-port", str(port), "--viewer.websocket-host", "127.0.0.1"]
    options += ["--viewer.image-format", "png"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command[:2] + options + command[2:] if command[0].endswith("ns-train") else command + options,
            cwd=work,
            env=environment(work) | {"PYTHONUNBUFFERED": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        try:
            wait_for(lambda: page(port) or process.poll() is not None, START)
            assert process.poll() is None, log.read_text()
            yield process, port
        finally:
            process.kill()
            process.wait()


def wait_for(condition: Callable[[], Any], seconds: float) -> Any:
    """Wait until a condition holds, and give what it found."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"nothing after {seconds} s"
        time.sleep(0.2)
    return found


def page(port: int) -> str:
    """The page that is served at a port, or nothing."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return ""
