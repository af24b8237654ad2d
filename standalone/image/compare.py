"""Several networks on one image with the same budget: Fig 2 of Cai et al."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bn_field_plugin.files import write_whole
from standalone.image.fit import ImageFit, ImageRunOptions, fit_image
from standalone.image.images import Picture, write_picture
from standalone.image.metrics import Image8, image_metrics
from standalone.image.outputs import draw_history, psnr_as_written, rehearse_writing
from standalone.image.page import write_comparison_page
from standalone.image.task import ImageTask
from standalone.networks import Variant
from standalone.optimization import OptimizationConfig
from standalone.options import NetworkOptions
from standalone.plots import new_figure, save_figure
from standalone.report import Cell, csv_text, device_name, machine_facts, write_table
from standalone.results import Results
from standalone.time_limit import TimeLimit

FIG2 = ("mlp", "pemlp-1", "pemlp-5", "mlp+batch", "pemlp-1+batch", "pemlp-5+batch")
"""Networks of Fig 2 of Cai et al."""

RESULTS = Results(
    "bn-image compare",
    (
        *("compare.png", "compare.html", "compare.md", "compare.csv", "compare.json", "curves.png"),
        *("reconstructions/*", "checkpoints/*.pt"),
    ),
    kept=("checkpoints/*.pt",),
)
"""The files that a comparison writes into its folder."""

PANEL_INCHES = 2.1
"""Side of a panel of the figure."""


PANELS_IN_ROW = 6
"""Most panels of the figure side by side."""


@dataclass(frozen=True)
class Zoom:
    """A square part of the image that the figure magnifies, in pixels."""

    top: int
    """First row."""
    left: int
    """First column."""
    side: int
    """Rows and columns."""


def compare(
    picture: Picture,
    networks: Sequence[NetworkOptions],
    run: ImageRunOptions,
    optimization: OptimizationConfig,
    folder: Path,
    *,
    resume: bool = False,
    limit: TimeLimit | None = None,
) -> dict[Variant, ImageFit]:
    """Fit a picture with each network, one after the other.

    Args:
        picture: the picture.
        networks: the networks, all with different names.
        run: budget and seed of each fit.
        optimization: optimizers; where no learning rates are given, each network has its own.
        folder: folder for the checkpoints.
        resume: whether to go on from the checkpoints.
        limit: time by which the command must have ended; each network has an equal share of it.
    """
    if limit is not None:
        limit = limit.reserving(rehearse_writing(picture) * len(networks))
    fits = {}
    for index, network in enumerate(networks):
        share = None if limit is None else limit.share(1 / (len(networks) - index))
        checkpoint = folder / "checkpoints" / f"{network.variant.slug}.pt"
        fits[network.variant] = fit_image(
            picture, network, run, optimization, checkpoint=checkpoint, resume=resume, limit=share
        )
    return fits


def write_comparison(
    folder: Path,
    picture: Picture,
    fits: Mapping[Variant, ImageFit],
    run: ImageRunOptions,
    command: str,
    zoom: Zoom | None = None,
    dpi: int = 100,
) -> None:
    """Write figure, page, curves, table (Markdown, JSON, CSV) and reconstructions.

    Args:
        folder: where to.
        picture: the picture.
        fits: the fits in the order of the table.
        run: options of the run.
        command: the command line, for the table.
        zoom: part to magnify; by default the one with the most detail.
        dpi: dots per inch of the figure.
    """
    task = ImageTask(picture)
    truth = task.to_8bit(picture.pixels)
    rows: list[dict[str, Cell]] = []
    for variant, result in fits.items():
        ours = task.to_8bit(result.pixels)
        reconstruction = dataclasses.replace(picture, pixels=result.pixels)
        of_file: dict[str, Cell] = {}
        if picture.is_lossy:
            of_file["PSNR of the file dB"] = round(psnr_as_written(truth, reconstruction), 2)
        rows.append(
            {
                "network": variant.label,
                "PSNR dB": round(result.psnr, 2),
                **of_file,
                **{name: value for name, value in image_metrics(truth, ours).items() if name != "psnr"},
                "layers x width": f"{result.network.config.depth}x{result.network.config.width}",
                "parameters": result.parameters,
                "steps": result.steps,
                "seconds": round(result.seconds, 1),
            }
        )
        name = f"{variant.slug}{picture.suffix}"
        write_picture(folder / "reconstructions" / name, reconstruction)
    notes = [
        "PSNR of the final network, folded, with exact statistics, on 8-bit clamped output.",
        "Seconds are those of optimisation, evaluations apart.",
    ]
    facts: dict[str, Cell] = {
        **machine_facts(),
        "device": device_name(run.torch_device()),
        "image": f"{picture.width}x{picture.height}x{picture.channels}",
        "seed": run.seed,
    }
    write_table("compare", "Networks on one image", command, rows, facts, notes, folder=folder)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    write_whole(folder / "compare.csv", csv_text(rows, columns))
    histories = {variant: result.history for variant, result in fits.items()}
    draw_history(histories, folder / "curves.png")
    ours8 = {variant: task.to_8bit(result.pixels) for variant, result in fits.items()}
    scores = {variant: result.psnr for variant, result in fits.items()}
    draw_comparison(truth, ours8, scores, folder / "compare.png", zoom or detailed_part(truth), dpi)
    write_comparison_page(folder / "compare.html", truth, ours8, histories, rows, command, notes)


def detailed_part(image: Image8) -> Zoom:
    """The square of a fifth of the shorter side with the strongest gradients, away from the border."""
    from scipy.ndimage import uniform_filter

    grey = image[..., :3].astype(np.float64).mean(axis=-1)
    side = max(2, min(grey.shape) // 5)
    if min(grey.shape) < 4:
        return Zoom(0, 0, min(grey.shape))
    slope = np.hypot(*np.gradient(grey))
    energy = uniform_filter(slope, side, mode="constant")
    half = side // 2
    inside = energy[half : grey.shape[0] - half, half : grey.shape[1] - half]
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    return Zoom(min(int(row), grey.shape[0] - side), min(int(column), grey.shape[1] - side), side)


def draw_comparison(
    truth: Image8,
    ours: Mapping[Variant, Image8],
    psnr: Mapping[Variant, float],
    path: Path,
    zoom: Zoom,
    dpi: int = 100,
) -> None:
    """Draw panels as in Fig 2: a row for each norm, a column for each network, and the truth before them.

    If the networks do not fill such rows, they are put one after the other, `PANELS_IN_ROW` in a row.

    The figure is written as a PNG of 256 colours, which makes its file small.
    """
    networks = list(dict.fromkeys(variant.network for variant in ours))
    norms = list(dict.fromkeys(variant.norm for variant in ours))
    height = PANEL_INCHES * truth.shape[0] / truth.shape[1]
    rows, columns = len(norms), 1 + len(networks)
    places = {v: (norms.index(v.norm), 1 + networks.index(v.network)) for v in ours}
    if columns > PANELS_IN_ROW:
        rows, columns = -(-(1 + len(ours)) // PANELS_IN_ROW), PANELS_IN_ROW
        places = {v: divmod(place, columns) for place, v in enumerate(ours, start=1)}
    figure, axes = new_figure(rows, columns, (PANEL_INCHES, height + 0.25))
    for panel in axes.flat:
        panel.set_axis_off()
    _draw_panel(axes[0, 0], truth, "ground truth", zoom)
    for variant, image in ours.items():
        panel = axes[places[variant]]
        _draw_panel(panel, image, f"{variant.label}  {psnr[variant]:.2f} dB", zoom)
    save_figure(figure, path, dpi, palette=True)


def _draw_panel(panel: Any, image: Image8, title: str, zoom: Zoom) -> None:
    """An image with its magnified part in the lower right corner."""
    options = {"cmap": "gray", "vmin": 0, "vmax": 255} if image.shape[2] == 1 else {}
    shown = image[..., 0] if image.shape[2] == 1 else image
    part = shown[zoom.top : zoom.top + zoom.side, zoom.left : zoom.left + zoom.side]
    panel.imshow(shown, interpolation="antialiased", **options)
    panel.set_title(title, fontsize=8)
    inset = panel.inset_axes((0.58, 0.0, 0.42, 0.42 * shown.shape[1] / shown.shape[0]))
    inset.imshow(part, interpolation="nearest", **options)
    inset.set(xticks=[], yticks=[])
    for spine in inset.spines.values():
        spine.set(visible=True, color="#ffcc00", linewidth=1.0)
    corner = (zoom.left - 0.5, zoom.top - 0.5)
    from matplotlib.patches import Rectangle

    frame = Rectangle(corner, zoom.side, zoom.side, fill=False, edgecolor="#ffcc00", linewidth=0.8)
    panel.add_patch(frame)
