"""The pages of a fit and of a comparison, in which image and reconstructions are shown side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from standalone.image.metrics import Image8
from standalone.image.task import BAND
from standalone.networks import Variant
from standalone.pages import DASHES, Line, Plot, Table, line_panels, picture_panels, shades, write_page
from standalone.plots import color
from standalone.report import Cell

FULL_SCALE_ERROR = 64
"""Error in 8-bit levels that an error map shows at its brightest."""

ZOOM = "The wheel zooms, dragging moves, a double click shows all; a pixel under the pointer says its value."
"""How to use the pictures."""

History = Sequence[Mapping[str, float]]
"""Evaluations during a fit, one row for each."""


def error_map(truth: Image8, ours: Image8) -> UInt8[np.ndarray, "h w 3"]:
    """Mean absolute error of a pixel's channels in false colours, black where it is zero."""
    from matplotlib import colormaps

    error = np.abs(truth.astype(np.float64) - ours).mean(axis=-1) / FULL_SCALE_ERROR
    colors: np.ndarray = (colormaps["inferno"](np.clip(error, 0, 1))[..., :3] * 255 + 0.5).astype(np.uint8)
    return colors


def write_fit_page(
    path: Path,
    truth: Image8,
    ours: Image8,
    variant: Variant,
    history: History,
    metrics: Mapping[str, Cell],
) -> None:
    """Write the page of one fit.

    Args:
        path: the file.
        truth: the image.
        ours: its reconstruction.
        variant: the network.
        history: evaluations during the fit.
        metrics: metrics by name.
    """
    panels = {
        "image": {"": truth},
        f"{variant.label}, {psnr_text(metrics.get('psnr'))}": {"": ours},
        "error": {"": error_map(truth, ours)},
    }
    note = f"{ZOOM} Error: mean of the channels, brightest from {FULL_SCALE_ERROR} of 255."
    write_page(
        path,
        f"An image by {variant.label}",
        [
            Plot("Image, reconstruction, error", picture_panels(panels), note),
            Table("Metrics", [dict(metrics)]),
            *progress({variant: history}),
            *bands(history),
        ],
    )


def write_comparison_page(
    path: Path,
    truth: Image8,
    ours: Mapping[Variant, Image8],
    histories: Mapping[Variant, History],
    rows: Sequence[Mapping[str, Cell]],
    command: str,
    notes: Sequence[str] = (),
) -> None:
    """Write the page of a comparison.

    Args:
        path: the file.
        truth: the image.
        ours: the reconstructions.
        histories: evaluations during the fits.
        rows: the table, with one row for each network in the order of `ours`.
        command: the command line that makes the page.
        notes: sentences under the table.
    """
    shown, error = "reconstructions", "errors"
    panels = {"image": {shown: truth, error: truth}}
    for (variant, picture), row in zip(ours.items(), rows, strict=True):
        title = f"{variant.label}, {psnr_text(row['PSNR dB'])}"
        panels[title] = {shown: picture, error: error_map(truth, picture)}
    note = f"{ZOOM} Errors: mean of the channels, brightest from {FULL_SCALE_ERROR} of 255."
    write_page(
        path,
        "Networks on one image",
        [
            Plot("Image and reconstructions", picture_panels(panels, columns=4), note),
            Table("Networks", rows),
            *progress(histories),
        ],
        command,
        notes,
    )


def psnr_text(value: Cell) -> str:
    """PSNR as text; None stands for the infinite PSNR of equal pictures."""
    return "no error" if value is None or value == float("inf") else f"{value:.2f} dB"


def progress(histories: Mapping[Variant, History]) -> list[Plot]:
    """Plots of PSNR against steps and against seconds; an empty list without evaluations."""
    panels = {
        title: [
            Line(
                variant.label,
                [row[key] for row in history],
                [row["psnr"] for row in history],
                color(variant),
                DASHES[variant.norm],
                "%{x:.6g} " + unit + ": %{y:.2f} dB",
            )
            for variant, history in histories.items()
            if history
        ]
        for title, key, unit in (("by step", "step", "steps"), ("by time", "seconds", "s"))
    }
    if not any(panels.values()):
        return []
    figure = line_panels(panels, ("step", "seconds of optimisation"), ("PSNR (dB)",), columns=2)
    return [Plot("PSNR while fitting", figure)]


def bands(history: History) -> list[Plot]:
    """Relative error of each frequency band against steps, low frequencies dark."""
    names = [name for name in (history[-1] if history else {}) if name.startswith(BAND)]
    if not names:
        return []
    lines = []
    for name, shade in zip(names, shades(len(names)), strict=True):
        rows = [row for row in history if row.get(name, 0) > 0]
        label = name.removeprefix(BAND)
        hover = "%{x} steps: %{y:.3g} of the energy"
        lines.append(Line(label, [r["step"] for r in rows], [r[name] for r in rows], shade, "solid", hover))
    figure = line_panels({"": lines}, ("step",), ("energy of error / energy of image",), log="y")
    return [Plot("Error by frequency, in cycles per pixel", figure)]
