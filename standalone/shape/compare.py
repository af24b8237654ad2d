"""Several networks fitted to one shape with one budget: pictures, table, curves."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from bn_field_plugin.files import write_whole
from standalone.optimization import count_parameters
from standalone.options import NetworkOptions
from standalone.plots import save_figure
from standalone.report import Cell, csv_text, machine_facts, write_table
from standalone.results import Results
from standalone.shape.contender import Contender, contend
from standalone.shape.inputs import ShapeInput
from standalone.shape.outputs import draw_history
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
"""The files that a comparison writes into its folder."""

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
    networks: Sequence[NetworkOptions],
    options: FitOptions,
    measuring: MeasureOptions,
    limit: TimeLimit | None = None,
) -> list[Contender]:
    """Fit each network with one budget, and measure it.

    Args:
        shape: the shape to fit.
        networks: the networks.
        options: all other options, which are equal for all; where no learning rates are given, each network
            has its own.
        measuring: how the fits are measured.
        limit: time by which the command must have ended; each network has an equal share of it.
    """
    if limit is not None:
        limit = limit.reserving(rehearse_picture(shape, 1 + 2 * len(networks), PANEL_SIDE))
    found = []
    for index, network in enumerate(networks):
        share = None if limit is None else limit.share(1 / (len(networks) - index))
        one = contend(shape, dataclasses.replace(options, network=network), measuring, limit=share)
        learned = count_parameters(network.build(3, 1, options.run.seed))
        found.append(dataclasses.replace(one, metrics={**one.metrics, "parameters": learned}))
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
    draw_history(contenders, folder / "curves.png")
    rows: list[dict[str, Cell]] = [_row(one) for one in contenders]
    facts: dict[str, Cell] = {
        **machine_facts(),
        "shape": shape.name,
        "seed": options.run.seed,
    }
    notes = [
        "Metrics of the final network, folded, with exact statistics; parameters as learned, norms included.",
        f"Chamfer L1 in sides of the box. {contenders[0].metrics['sampling']}.",
    ]
    write_table("compare", f"Networks on {shape.name}", command, rows, facts, notes, folder=folder)
    write_whole(folder / "compare.csv", csv_text(rows, list(rows[0])))


def _row(one: Contender) -> dict[str, Cell]:
    row: dict[str, Cell] = {"network": one.variant.label}
    row |= {heading: one.metrics[name] for name, heading in COLUMNS.items()}
    config = one.shape.network.config
    row |= {"layers x width": f"{config.depth}x{config.width}"}
    row |= {name: one.metrics[name] for name in ("parameters", "steps", "seconds")}
    return row
