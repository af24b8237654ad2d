"""Functions for results of all kinds: facts about the machine, and tables as Markdown, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bn_field_plugin.files import write_whole

if TYPE_CHECKING:  # loading these takes a second, which a command's --help can do without
    import numpy as np
    import torch

Cell = str | int | float | bool | None


def machine_facts() -> dict[str, str]:
    """Hardware, threads and versions behind a measurement, as short strings.

    Keys: `cpu`, `cores` (those that this process may use), `threads` (of torch), `gpu`, `python`, `torch`,
    `nerfstudio`; the value is "none" for a part that is absent.
    """
    import torch

    return {
        "cpu": _cpu_model(),
        "cores": str(usable_cores()),
        "threads": str(torch.get_num_threads()),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "nerfstudio": _version_of("nerfstudio"),
    }


def markdown_table(rows: Sequence[Mapping[str, Cell]]) -> str:
    """A Markdown table with one column for each key, in the order of first appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell_text(row.get(column)) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def write_table(
    name: str,
    title: str,
    command: str,
    rows: Sequence[Mapping[str, Cell]],
    facts: Mapping[str, Cell],
    notes: Sequence[str] = (),
    *,
    folder: Path,
) -> Path:
    """Write `NAME.md` and `NAME.json`, each complete or not at all, and print the Markdown.

    Args:
        name: file name without ending.
        title: heading of the table.
        command: the command line that makes the table.
        rows: one mapping from column to cell for each row; floats are shown with 4 significant digits in the
            Markdown and kept whole in the JSON.
        facts: `machine_facts()` and further facts about the measurement (seed, minutes, rounds, ...).
        notes: sentences under the table.
        folder: folder of the two files; made if absent.

    Returns:
        Path of the Markdown file.
    """
    parts = [
        f"# {title}",
        markdown_table(rows),
        "\n".join(f"- {note}" for note in notes),
        f"Command: `{command}`",
        "; ".join(f"{key}: {cell_text(value)}" for key, value in facts.items()),
    ]
    markdown = "\n\n".join(part for part in parts if part) + "\n"
    record = {
        "title": title,
        "command": command,
        "facts": dict(facts),
        "rows": [dict(row) for row in rows],
        "notes": list(notes),
    }
    write_whole(folder / f"{name}.json", json.dumps(record, indent=2) + "\n")
    write_whole(folder / f"{name}.md", markdown)
    print(markdown)
    return folder / f"{name}.md"


def versions() -> dict[str, str]:
    """Versions of Python, torch and nerfstudio, to record with a result."""
    packages = ("torch", "numpy", "bn-field-plugin")
    return {"python": platform.python_version(), **{name: _version_of(name) for name in packages}}


def device_name(device: torch.device) -> str:
    """Name of the processor or GPU behind a torch device."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu: {_cpu_model()}"


def write_metrics(path: Path, numbers: Mapping[str, Any], seed: int, device: torch.device) -> dict[str, Any]:
    """Write the numbers of a fit as JSON, with its seed, versions and device; returns all of these."""
    metrics = {**numbers, "seed": seed, "versions": versions(), "device": device_name(device)}
    write_whole(path, json.dumps(metrics, indent=2) + "\n")
    return metrics


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """A CSV table of given columns; an absent cell is empty."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as a compressed .npz file, complete or not at all.

    The file's content is made in memory, because numpy's archive prints a traceback if the disk is full.
    """
    import numpy as np

    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_whole(path, content.getvalue())


def say(text: str) -> None:
    """Print the result of a command as one line."""
    print(text, flush=True)


def cell_text(cell: Cell) -> str:
    """A cell as tables show it: floats have 4 significant digits, and None is empty."""
    if cell is None:
        return ""
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def usable_cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    # A virtual machine may give a general name for the processor; family and model number then identify it.
    fields = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
    name = fields.get("model name") or platform.machine()
    if "cpu family" not in fields:
        return name
    return f"{name} (family {fields['cpu family']}, model {fields['model']})"
