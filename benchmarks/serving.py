"""Commands with a page in the browser, started and ended."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START = 480.0
"""Most seconds to wait for a page: far more than it takes, since libraries load slowly on a busy machine."""


@contextmanager
def served(
    words: Sequence[object],
    log: Path,
    *,
    options: Sequence[str] = (),
    folder: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start a command with a viewer, yield it with its port once the page is there, and end it at last.

    Args:
        words: a command of this Python's environment and its options. Those of the viewer are added.
        log: file for its output.
        options: further options of the viewer.
        folder: where it runs.
        environment: its environment variables.

    Raises:
        RuntimeError: the command ends before its page is there.
        TimeoutError: there is no page after `START` seconds.
    """
    port = free_port()
    command = [str(Path(sys.executable).with_name(str(words[0]))), *map(str, words[1:])]
    place = 2 if words[0] == "ns-train" else len(command)  # a dataparser's options end those of ns-train
    command[place:place] = ["--viewer.websocket-port", str(port), "--viewer.websocket-host", "127.0.0.1"]
    command[place:place] = options
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for(lambda: page(port) or process.poll() is not None, START)
            if process.poll() is not None:
                raise RuntimeError(f"{words[0]} ended with {process.returncode}:\n{log.read_text()[-3000:]}")
            yield process, port
        finally:
            process.kill()
            process.wait()


def wait_for(condition: Callable[[], Any], seconds: float) -> Any:
    """Wait until a condition holds, and return what it returned.

    Raises:
        TimeoutError: it does not hold after so many seconds.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing after {seconds:g} s")
        time.sleep(0.2)
    return found


def page(port: int) -> str:
    """The page that is served at a port; empty while there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return ""


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
