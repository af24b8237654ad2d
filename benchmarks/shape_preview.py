"""What `bn-shape fit --config preview` reaches in its two minutes on a CPU."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks import RESULTS
from standalone.presets import PACKAGED
from standalone.report import Cell, machine_facts, write_table
from standalone.shape.cli import main as bn_shape

PREVIEW = PACKAGED / "shape" / "preview.yaml"
"""The configuration."""

TARGETS = {"iou_uniform": 0.985, "iou_near_surface": 0.90}
"""Least values that count as met."""


@dataclass(frozen=True)
class ShapePreview:
    """Run the preview and note what it reaches."""

    shapes: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Mesh files; the built-in shape without any."""
    output_dir: Path = Path("outputs/shape_preview")
    """Folder of the fits."""


def main(config: ShapePreview) -> None:
    """Run, and write benchmarks/results/shape_preview."""
    rows: list[dict[str, Cell]] = []
    for path in config.shapes or (None,):
        folder = config.output_dir / (path.stem if path else "knurled-torus")
        start = time.perf_counter()
        bn_shape(
            ["fit", *([str(path)] if path else []), "--config", str(PREVIEW), "--output-dir", str(folder)]
        )
        wall = time.perf_counter() - start
        metrics = json.loads((folder / "metrics.json").read_text())
        names = ("iou_uniform", "iou_near_surface", "iou_grid", "chamfer_l1", "normal_consistency", "f_score")
        rows.append(
            {
                "shape": folder.name,
                **{name: metrics[name] for name in names},
                "steps": metrics["steps"],
                "sampling share": round(metrics["sampling_share"], 3),
                "fit s": round(metrics["seconds"], 1),
                "whole command s": round(wall, 1),
            }
        )
    targets = ", ".join(f"{name} at least {value}" for name, value in TARGETS.items())
    command = f"python -m benchmarks.shape_preview {' '.join(str(row['shape']) for row in rows)}"
    facts: dict[str, Cell] = {**machine_facts(), "seed": 0}
    write_table(
        "shape_preview",
        "A shape in two minutes",
        command,
        rows,
        facts,
        [f"Targets: {targets}."],
        folder=RESULTS,
    )


if __name__ == "__main__":
    main(tyro.cli(ShapePreview))
