"""Several networks fitted to one shape with one budget: pictures, table, curves."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from bn_field_plugin.files import write_whole
from standalone.networks import Variant
from standalone.plots import save_figure
from standalone.report import Cell, csv_text, machine_facts, write_table
from standalone.results import Results
from standalone.shape.contender import Contender, contend
from standalone.shape.inputs import ShapeInput
from standalone.shape.outputs import draw_curves
from standalone.shape.pictures import PANEL_SIDE, draw_contenders
from standalone.shape.rehearsal import rehearse_picture
from standalone.shape.shading import Viewpoint
from standalone.shape.task import FitOptions, MeasureOptions
from standalone.time_limit import TimeLimit

FIG_3D = ("mlp", "pemlp-1", "pemlp-5", "mlp+batch", "pemlp-1+batch", "pemlp-5+batch", "siren")
"""The networks of Cai et al.'s shape experiment, each without and with batch norm, and SIREN."""

RESULTS = Results(
    "bn-shape compare", ("compare.png", "compare.md", "compare.csv", "compare.json", "curves.png")
)
"""What a comparison leaves in its folder."""

COLUMNS = {
    "iou_uniform": "IoU uniform",
    "iou_near_surface": "IoU near surface",
    "iou_grid": "IoU grid",
    "chamfer_l1": "Chamfer L1",
    "normal_consistency": "normal consistency",
    "f_score": "F-score",
}
"""Metrics of the table and their headings."""


def compare(
    shape: ShapeInput,
    variants: Sequence[Variant],
    options: FitOptions,
    measuring: MeasureOptions,
    limit: TimeLimit | None = None,
) -> list[Contender]:
    """Fit each network with one budget, and measure it.

    Args:
        shape: what to fit.
        variants: the networks.
        options: the same for all; learning rates that are not given follow each network's norm.
        measuring: how they are measured.
        limit: when the command must have ended; each network has an equal share of the time.
    """
    if limit is not None:
        limit = limit.reserving(rehearse_picture(shape, 1 + 2 * len(variants), PANEL_SIDE))
    found = []
    for index, variant in enumerate(variants):
        share = None if limit is None else limit.share(1 / (len(variants) - index))
        network = dataclasses.replace(options.network, network=variant.network, norm=variant.norm)
        found.append(contend(shape, dataclasses.replace(options, network=network), measuring, limit=share))
    return found


def write_comparison(
    folder: Path,
    shape: ShapeInput,
    contenders: Sequence[Contender],
    options: FitOptions,
    command: str,
    view: Viewpoint,
) -> None:
    """Write picture, table (Markdown, JSON, CSV) and curves into a folder."""
    save_figure(draw_contenders(shape, contenders, view), folder / "compare.png", dpi=100, palette=True)
    draw_curves(contenders, folder / "curves.png")
    rows: list[dict[str, Cell]] = [_row(one) for one in contenders]
    facts: dict[str, Cell] = {
        **machine_facts(),
        "shape": shape.name,
        "layers x width": f"{options.network.size.depth}x{options.network.size.width}",
        "seed": options.run.seed,
    }
    notes = [
        "Metrics of the final network, folded, with exact statistics.",
        f"Chamfer L1 in sides of the box. {contenders[0].metrics['sampling']}.",
    ]
    write_table("compare", f"Networks on {shape.name}", command, rows, facts, notes, folder=folder)
    write_whole(folder / "compare.csv", csv_text(rows, list(rows[0])))


def _row(one: Contender) -> dict[str, Cell]:
    row: dict[str, Cell] = {"network": one.variant.label}
    row |= {heading: one.metrics[name] for name, heading in COLUMNS.items()}
    row |= {name: one.metrics[name] for name in ("parameters", "steps", "seconds")}
    return row
