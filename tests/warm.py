"""Commands in processes that are forked from one which has imported everything.

Imports take half of a short command's time. Here a server of multiprocessing imports everything once. Each
command still has a process of its own, with its arguments, folder, environment, streams and exit status.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import entry_points
from multiprocessing import connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from subprocess import TimeoutExpired

import torch

from tests import commands

IS_SERVED = sys.platform == "linux" and not torch.cuda.is_available()
"""Whether forking works: it breaks CUDA once CUDA was asked for, and libraries of other systems."""
PRELOADED = "tests.preloaded"
"""The module that the server imports."""

_lock = threading.Lock()


def run(work: Path, words: Sequence[str], timeout: float) -> tuple[int, str, str]:
    """Run a command in the folder `work`.

    Returns:
        Exit status, output, errors.

    Raises:
        TimeoutExpired: it took longer than `timeout` seconds.
    """
    context = multiprocessing.get_context("forkserver")
    assert isinstance(context, ForkServerContext)
    streams = [work / f".stream-{threading.get_ident()}-{kind}" for kind in ("out", "err")]
    # One thread at a time: starting a process also collects others that are ending.
    with _lock:
        context.set_forkserver_preload([PRELOADED])
        process = context.Process(
            target=_serve, args=(work, tuple(words), commands.environment(work), *streams)
        )
        process.start()
    if not connection.wait([process.sentinel], timeout):
        process.kill()
        raise TimeoutExpired(words, timeout)
    with _lock:
        process.join()
    code = process.exitcode
    assert code is not None
    out, err = (stream.read_text() for stream in streams)
    return code, out, err


def _serve(work: Path, words: tuple[str, ...], environment: dict[str, str], out: Path, err: Path) -> None:
    """Run in the forked process: set it up as a new one, call the command, and end as one does."""
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(work)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [str(commands.BIN / words[0]), *words[1:]]
    status: object = None
    try:
        (entry,) = entry_points(group="console_scripts", name=words[0])
        status = entry.load()()
    except SystemExit as exit_:
        status = exit_.code
    except BaseException:
        try:
            sys.excepthook(*sys.exc_info())
            status = 1
        except SystemExit as exit_:  # our hook exits so for users' mistakes
            status = exit_.code
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.exit(status)  # type: ignore[arg-type]
