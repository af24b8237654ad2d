"""Tests and tables of everything that runs on CUDA, in eight minutes and one report: `make gpu`.

First the tests marked `gpu`, each CUDA path beside its CPU twin; then the tables. Each part runs in a process
of its own with a share of the time that is left: one that fails, hangs or takes the device down is reported,
and the next goes on. No GPU has run this yet; `--device cpu --tiny` tries everything but the numbers.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro

from bn_field_plugin.errors import UserError, exit_on_user_error
from bn_field_plugin.files import write_whole
from standalone.interrupts import exit_on_interrupt
from standalone.report import Cell, machine_facts, markdown_table

ROOT = Path(__file__).parents[1]
METHODS = ("bn-ngp", "bn-nerfacto", "bn-nerf", "nerfacto", "instant-ngp-bounded")
"""Methods trained for equal time; instant-ngp's settings for bounded scenes are those of its authors."""
WEIGHTS = {"tests": 4.0, "steps": 2.0, "hash-grid": 1.0, "sampling": 1.0, "fused": 1.0, "scene": 1.0}
"""Parts before the methods, in order, and their shares of the time; each method has `METHOD_WEIGHT`."""
METHOD_WEIGHT = 2.4
LOG_LINES = 12
"""Lines of a failed part's log that the report shows."""
LEAST_SECONDS = 5.0
"""Seconds that a part needs at least: with less time left it is not started."""


@dataclass(frozen=True)
class GPUReport:
    """Test and measure everything on CUDA, and write one report."""

    device: Literal["cuda", "cpu"] = "cuda"
    """Where to run. The CPU is for trying the report itself."""
    tiny: bool = False
    """Take sizes that last seconds and whose numbers mean nothing, to try the report itself."""
    minutes: float = 8.0
    """Wall clock of everything."""
    began: float | None = None
    """When the minutes began, in seconds of the epoch; now where not given. `make gpu` counts its install."""
    parts: tuple[str, ...] = (*WEIGHTS, *METHODS)
    """What to run, in this order: tests, tables, and names of methods."""
    tests: tuple[str, ...] = ("tests",)
    """Files or folders of the tests."""
    data: Path | None = None
    """Blender-format scene to train on; by default the embedded one."""
    seed: int = 0
    """Seed of networks and runs."""
    output_dir: Path = Path("outputs/gpu")
    """Folder of the report, logs and runs."""


@dataclass
class Part:
    """The outcome of one part."""

    name: str
    status: str
    """`ok`, or what went wrong in a few words."""
    seconds: float = 0.0
    found: dict[str, Any] = field(default_factory=dict)
    """What it wrote: `rows` of its table, `notes`, and `failed` where it ran and found faults."""
    log: str = ""
    """The last lines of its log; empty where it ended well."""

    @property
    def is_ok(self) -> bool:
        """Whether the part ended well and found no fault."""
        return self.status == "ok"


def main(config: GPUReport) -> int:
    """Run all parts and write report.md and report.json.

    Returns:
        Exit status: 0 where all parts went well, else 1.

    Raises:
        UserError: the device is CUDA, and there is none; or an unknown part.
    """
    check(config)
    output_dir = config.output_dir.resolve()
    end = (time.time() if config.began is None else config.began) + 60 * config.minutes
    waiting = list(config.parts)
    parts: list[Part] = []
    method_seconds: float | None = None
    while waiting:
        limit = planned = share_of(waiting, end - time.time())
        name = waiting.pop(0)
        if name in METHODS:  # so every method trains for the same time, whatever others left over
            planned = method_seconds = min(limit, method_seconds or limit)
        print(f"{name}: at most {limit:.0f} s", flush=True)
        part = run_part(name, command_of(name, config, output_dir, planned), output_dir, limit)
        parts.append(part)
        print(f"{name}: {part.status} after {part.seconds:.0f} s", flush=True)
        write_report(config, parts, output_dir)  # a later part may take the process down
    print(f"report: {output_dir / 'report.md'}")
    return 0 if all(part.is_ok for part in parts) else 1


def check(config: GPUReport) -> None:
    """Make sure that the parts and the device are there."""
    import torch

    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("there is no CUDA device here; --device cpu --tiny tries the report itself")
    unknown = [name for name in config.parts if name not in WEIGHTS and name not in METHODS]
    if unknown:
        known = ", ".join((*WEIGHTS, *METHODS))
        raise UserError(f"--parts has {', '.join(unknown)}: choose from {known}")


def share_of(waiting: Sequence[str], left: float) -> float:
    """Seconds for the first of the waiting parts. Time that a part leaves over goes to those after it."""
    weights = [WEIGHTS.get(name, METHOD_WEIGHT) for name in waiting]
    return max(left, 0.0) * weights[0] / sum(weights)


def command_of(name: str, config: GPUReport, output_dir: Path, seconds: float) -> list[str]:
    """The command of a part with its time limit. It writes NAME.json in the output folder."""
    python = [sys.executable, "-u", "-m"]
    if name == "tests":
        junit = ["--junitxml", str(output_dir / "tests.xml"), "-p", "no:cacheprovider"]
        return [*python, "pytest", "-q", "-m", "gpu", *junit, *config.tests]
    options = {
        "device": config.device,
        "tiny": config.tiny,
        "seconds": seconds,
        "seed": config.seed,
        "output_dir": str(output_dir),
        "data": None if config.data is None else str(config.data.resolve()),
    }
    module = "benchmarks.gpu_training" if name in METHODS or name == "scene" else "benchmarks.gpu_parts"
    return [*python, module, name, json.dumps(options)]


def run_part(name: str, command: Sequence[str], output_dir: Path, limit: float) -> Part:
    """Run a part's command, and end it with all its processes when its time is over.

    Args:
        name: the part's.
        command: its words.
        output_dir: folder of its log and results.
        limit: seconds that it may take.
    """
    if limit < LEAST_SECONDS:
        return Part(name, "not begun: no time was left")
    output_dir.mkdir(parents=True, exist_ok=True)
    results = output_dir / ("tests.xml" if name == "tests" else f"{name}.json")
    results.unlink(missing_ok=True)
    log = output_dir / f"{name}.log"
    start = time.monotonic()
    with log.open("w") as stream:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
    part = Part(name, "ok", time.monotonic() - start)
    if code is None:
        part.status = f"stopped after {limit:.0f} s"
    elif code != 0:
        part.status = f"failed with status {code}"
    if results.exists():
        try:
            part.found = tests_found(results) if name == "tests" else json.loads(results.read_text())
        except (ValueError, SyntaxError):  # the part wrote half a file, or none that can be read
            part.status = "failed: its result cannot be read"
    elif part.is_ok:
        part.status = "failed: it left no result"
    if part.is_ok and part.found.get("failed"):
        part.status = f"failed: {part.found['failed']}"
    if not part.is_ok:
        part.log = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
    return part


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def tests_found(junit: Path) -> dict[str, Any]:
    """How many tests passed, failed and were skipped, and what failed."""
    from xml.etree import ElementTree

    counts = {"passed": 0, "failed": 0, "skipped": 0}
    notes = []
    for case in ElementTree.parse(junit).getroot().iter("testcase"):
        kinds = {child.tag: child for child in case}
        broken = kinds.get("failure", kinds.get("error"))
        if broken is not None:
            counts["failed"] += 1
            message = (broken.get("message") or "").splitlines() or [""]
            notes.append(f"{case.get('classname')}::{case.get('name')}: {message[0][:160]}")
        else:
            counts["skipped" if "skipped" in kinds else "passed"] += 1
    rows: list[dict[str, Cell]] = [dict(counts)]
    return {"rows": rows, "notes": notes}


def write_report(config: GPUReport, parts: Sequence[Part], output_dir: Path) -> None:
    """Write the outcomes so far, as Markdown and JSON."""
    facts = {**machine_facts(), "device": config.device, "seed": config.seed, "tiny": config.tiny}
    lines = ["# What a GPU makes of it", "", "; ".join(f"{key}: {value}" for key, value in facts.items()), ""]
    overview: list[dict[str, Cell]] = [
        {"part": part.name, "status": part.status, "seconds": round(part.seconds, 1)} for part in parts
    ]
    lines += [markdown_table(overview), ""]
    trained = [row for part in parts if part.name in METHODS for row in part.found.get("rows", [])]
    tables = [(part.name, part.found.get("rows", [])) for part in parts if part.name not in METHODS]
    for title, rows in (*tables, ("Equal training time, rendering speed", trained)):
        if rows:
            lines += [f"## {title}", "", markdown_table(rows), ""]
    for part in parts:
        notes = [f"- {part.name}: {note}" for note in part.found.get("notes", [])]
        lines += [*notes, ""] if notes else []
        if part.log:
            lines += [f"## The end of the log of {part.name}", "", "```", part.log, "```", ""]
    command = "python -m benchmarks.gpu" + (f" --device {config.device}" if config.device != "cuda" else "")
    lines += [f"Command: `{command}{' --tiny' if config.tiny else ''}`", ""]
    record = {"facts": facts, "parts": [vars(part) for part in parts]}
    write_whole(output_dir / "report.json", json.dumps(record, indent=2) + "\n")
    write_whole(output_dir / "report.md", "\n".join(lines))


if __name__ == "__main__":
    with exit_on_user_error(), exit_on_interrupt():
        sys.exit(main(tyro.cli(GPUReport)))
