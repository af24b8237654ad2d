"""Forged files for the decoder of encoded images, which must decode each, or refuse it by a `UserError`.

Batches run in processes of their own, under a limit of memory and, for each file, of CPU time that holds
inside compiled code too. The state is kept, so that a stopped campaign goes on where it was.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import re
import resource
import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.forgeries import forgery
from bn_field_plugin.errors import UserError
from bn_field_plugin.files import write_whole
from standalone.image.codec.bitstream import unpack
from standalone.image.codec.coding import render
from standalone.image.coordinates import SampleGrid

SAMPLES = 16
"""Most rows and columns that are decoded of a file's picture; sizes that headers claim are kept."""

SECONDS = 10.0
"""CPU time that a file may take."""

MEMORY = 2**30
"""Bytes of memory that decoding may ask for, beyond what the process has."""

BATCH = 5000
"""Number of files that one process decodes."""

DECODED = "decoded"
"""Outcome of a file that is decoded. Other outcomes begin with one of the words below."""
REFUSED = "refused: "
HARM = "HARM: "


@dataclass
class Tally:
    """Numbers of outcomes of the files so far."""

    seed: int
    """Seed of the campaign."""
    done: int = 0
    """Number of files that are done, from number 0 on."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """Number of files by `KIND|OUTCOME`."""
    harm: dict[str, str] = field(default_factory=dict)
    """The harm that files did, by their numbers."""
    cpu_seconds: float = 0.0
    """CPU time of making and decoding all files."""
    slowest_ms: float = 0.0
    """CPU time of the file that took longest."""
    memory_mib: float = 0.0
    """Most memory by which a process grew over its batch."""

    def add(self, other: Tally) -> None:
        """Add the outcomes of the next files."""
        self.done += other.done
        for key, count in other.outcomes.items():
            self.outcomes[key] = self.outcomes.get(key, 0) + count
        self.harm |= other.harm
        self.cpu_seconds += other.cpu_seconds
        self.slowest_ms = max(self.slowest_ms, other.slowest_ms)
        self.memory_mib = max(self.memory_mib, other.memory_mib)

    def by_kind(self) -> dict[str, Counter[str]]:
        """Numbers of decoded, refused and harmful files, by kind."""
        found: dict[str, Counter[str]] = {}
        for key, count in self.outcomes.items():
            kind, _, outcome = key.partition("|")
            found.setdefault(kind, Counter())[outcome.partition(":")[0]] += count
        return found

    @staticmethod
    def load(path: Path, seed: int) -> Tally:
        """The state that an earlier call with this seed left, or an empty one."""
        if path.is_file():
            found = Tally(**json.loads(path.read_text(encoding="utf-8")))
            if found.seed == seed:
                return found
        return Tally(seed)

    def save(self, path: Path) -> None:
        """Write the state."""
        write_whole(path, json.dumps(dataclasses.asdict(self), indent=1) + "\n")


def outcome_of(data: bytes) -> str:
    """What the decoder makes of a file: `DECODED`, or `REFUSED` or `HARM` with the reason."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a warning would reach the user
            image = unpack(data)
            rows, columns = min(image.height, SAMPLES), min(image.width, SAMPLES)
            pixels = render(image, SampleGrid(image.height, image.width, rows, columns)).pixels
    except UserError as error:
        return REFUSED + re.sub(r"[-\d.,]+", "N", str(error).partition(":")[0])
    except Exception:  # any other exception is harm
        return HARM + traceback.format_exc(limit=-2).strip().replace("\n", " / ")
    if pixels.shape != (rows, columns, image.channels) or not np.isfinite(pixels).all():
        return HARM + "pixels that are not finite"
    return DECODED


def decode_batch(seed: int, numbers: Sequence[int], sound: Sequence[bytes], current: Any = None) -> Tally:
    """Decode files one after the other in this process.

    Args:
        seed: of the campaign.
        numbers: of the files.
        sound: files to begin with.
        current: shared memory that is told the number that is being decoded.
    """
    tally = Tally(seed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    for number in numbers:
        kind, data = forgery(seed, number, sound)
        if current is not None:
            current.value = number
            signal.setitimer(signal.ITIMER_PROF, SECONDS)  # the timer's signal ends the process
        begun = time.process_time()
        outcome = outcome_of(data)
        tally.slowest_ms = max(tally.slowest_ms, 1e3 * (time.process_time() - begun))
        key = f"{kind}|{outcome.split(' / ')[0]}"
        tally.outcomes[key] = tally.outcomes.get(key, 0) + 1
        if outcome.startswith(HARM):
            tally.harm[str(number)] = outcome
        tally.done += 1
    tally.cpu_seconds = time.process_time() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tally.memory_mib = (after - before) / 1024
    return tally


def decode_apart(seed: int, numbers: Sequence[int], sound: Sequence[bytes]) -> Tally:
    """Decode files in a process that may neither take much memory nor hang; harm that ends it is counted."""
    fork = multiprocessing.get_context("fork")
    tally, left = Tally(seed), list(numbers)
    while left:
        current = fork.RawValue("q", left[0])
        ours, theirs = fork.Pipe(duplex=False)
        process = fork.Process(target=_limited, args=(seed, left, sound, current, theirs))
        process.start()
        theirs.close()
        try:
            tally.add(ours.recv())
            left = []
        except EOFError:  # it died: what came before in this batch is decoded once more, without the culprit
            process.join()
            number = current.value
            kind, _ = forgery(seed, number, sound)
            hung = process.exitcode == -signal.SIGPROF
            what = HARM + (f"more than {SECONDS:g} s" if hung else f"the process died: {process.exitcode}")
            tally.add(Tally(seed, 1, {f"{kind}|{what}": 1}, {str(number): what}))
            left.remove(number)
        process.join()
    return tally


def _limited(seed: int, numbers: list[int], sound: Sequence[bytes], current: Any, pipe: Connection) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pipe.send(decode_batch(seed, numbers, sound, current))
