"""The campaign of forged files: all batches, and the table."""

from __future__ import annotations

from pathlib import Path

from benchmarks import RESULTS
from benchmarks.faults.forgeries import FORGERS, sound_files
from benchmarks.faults.fuzzing import BATCH, MEMORY, SAMPLES, SECONDS, Tally, decode_apart
from bn_field_plugin.progress import track
from standalone.report import Cell, machine_facts, write_table

STATE = "fuzz.json"
"""File that an interrupted campaign goes on from."""


def run_fuzz(inputs: int, seed: int, folder: Path, command: str) -> int:
    """Decode forged files, in batches that are kept, and write benchmarks/results/faults_fuzz.

    Args:
        inputs: number of files.
        seed: seed of all files.
        folder: keeps the campaign's state.
        command: the command line behind the table.

    Returns:
        How many files did harm.
    """
    sound = sound_files()
    tally = Tally.load(folder / STATE, seed)
    for start in track(range(tally.done, inputs, BATCH), "batches of forged files"):
        tally.add(decode_apart(seed, range(start, min(start + BATCH, inputs)), sound))
        tally.save(folder / STATE)
    _write(tally, command)
    return len(tally.harm)


def _write(tally: Tally, command: str) -> None:
    kinds = tally.by_kind()
    rows: list[dict[str, Cell]] = []
    for kind in FORGERS:
        counts = kinds.get(kind, {})
        refused, decoded, harm = (counts.get(key, 0) for key in ("refused", "decoded", "HARM"))
        rows.append(
            {
                "files": kind,
                "tried": refused + decoded + harm,
                "refused": refused,
                "decoded": decoded,
                "crash, hang, memory, warning": harm,
            }
        )
    total: dict[str, Cell] = {"files": "all"}
    for key in list(rows[0])[1:]:
        total[key] = sum(int(row[key] or 0) for row in rows)
    rows.append(total)
    facts: dict[str, Cell] = {
        **machine_facts(),
        "seed": tally.seed,
        "CPU s": round(tally.cpu_seconds, 1),
        "slowest file, CPU ms": round(tally.slowest_ms, 1),
        "largest growth of a process over its batch, MiB": round(tally.memory_mib, 1),
    }
    notes = [
        "Refused: the documented error, in one line. Decoded: finite pixels of the size and type that the "
        f"header claims, at {SAMPLES} x {SAMPLES} points or all. Anything else counts as harm, warnings too.",
        f"Limits: {SECONDS:g} s of CPU time for a file, {MEMORY / 2**20:.0f} MiB beyond what a process of "
        f"{BATCH} files begins with. Sealed files have a right checksum.",
    ]
    write_table("faults_fuzz", "Decoder under forged files", command, rows, facts, notes, folder=RESULTS)
