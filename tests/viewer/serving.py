"""Commands with a viewer, in the folder and the environment of the tests' commands."""

from __future__ import annotations

import re
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.serving import served
from tests.commands import environment


def running(
    work: Path, log: Path, *words: object
) -> AbstractContextManager[tuple[subprocess.Popen[bytes], int]]:
    """The command and its port, as `served` yields them. Pictures come as PNG, which loses nothing.

    Args:
        work: folder in which it runs.
        log: file for its output.
        words: the command and its options.
    """
    lossless = ("--viewer.image-format", "png")
    return served(words, log, options=lossless, folder=work, environment=environment(work))


def tracebacks(log: Path) -> list[str]:
    """The tracebacks in a command's output, but for those in which viser alone takes part.

    viser prints one when it handles what a visitor sent last only after that visitor has left.
    """
    found = re.findall(r"^Traceback .*\n(?:[ \t].*\n)*", log.read_text(), re.MULTILINE)
    return [text for text in found if not all("/viser/" in name for name in re.findall('File "(.*)"', text))]
