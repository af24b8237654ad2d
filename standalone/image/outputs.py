"""The files that a fit writes into its folder: pictures, curves, numbers."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bn_field_plugin.errors import UserError
from bn_field_plugin.files import write_whole
from standalone.command_line import CONFIG
from standalone.image.codec.coding import PrecisionOptions, bits_per_pixel, encode_network
from standalone.image.fit import ImageFit, ImageRunOptions
from standalone.image.images import Picture, encoded_picture, picture_of, write_picture
from standalone.image.metrics import Image8, image_metrics, psnr
from standalone.image.page import error_map, write_fit_page
from standalone.image.task import BAND, ImageTask
from standalone.networks import Variant
from standalone.pages import data_uri, line_panels
from standalone.plots import CHART_DPI, draw_curves, new_figure, save_figure
from standalone.report import csv_text, write_metrics
from standalone.results import Results
from standalone.time_limit import Timed

CHECKPOINT = "checkpoint.pt"
"""File of a fit's state."""
ENCODED = "image.bni"
"""File of the image in half precision, for `bn-image render` and `decode`."""
PAGE = "page.html"
"""File of the page that shows a fit."""
RESULTS = Results(
    "bn-image fit",
    (
        *(
            "reconstruction.*",
            "error.png",
            "curve.csv",
            "curve.png",
            "bands.csv",
            "bands.png",
            "metrics.json",
            PAGE,
        ),
        *(ENCODED, CHECKPOINT, CONFIG),
    ),
    kept=(CHECKPOINT, CONFIG),
)
"""The files that a fit writes into its folder."""
REHEARSED_ROWS = 64
"""Rows of a picture by which the time of writing the results is estimated."""
CHARTS = 4
"""Estimated time of charts, the page's plots and the encoded file, in units of the time of an empty chart."""


def write_fit(
    folder: Path, picture: Picture, result: ImageFit, variant: Variant, run: ImageRunOptions
) -> dict[str, Any]:
    """Write all results of a fit but its checkpoint and options.

    Args:
        folder: folder for the files.
        picture: the picture.
        result: the fit.
        variant: network and norm.
        run: options of the run.

    Returns:
        The content of metrics.json.
    """
    task = ImageTask(picture)
    truth, ours = task.to_8bit(picture.pixels), task.to_8bit(result.pixels)
    reconstruction = dataclasses.replace(picture, pixels=result.pixels)
    write_picture(folder / f"reconstruction{picture.suffix}", reconstruction)
    write_picture(folder / "error.png", Picture(error_map(truth, ours), "png"))
    bands = [name for name in (result.history[-1] if result.history else {}) if name.startswith(BAND)]
    write_whole(folder / "curve.csv", csv_text(result.history, ["step", "seconds", "loss", "psnr"]))
    write_whole(folder / "bands.csv", csv_text(result.history, ["step", "seconds", *bands]))
    draw_history({variant: result.history}, folder / "curve.png")
    draw_bands(result.history, bands, folder / "bands.png")
    numbers = _without_infinity(
        {
            **image_metrics(truth, ours),
            **({"psnr_of_file": psnr_as_written(truth, reconstruction)} if picture.is_lossy else {}),
            "steps": result.steps,
            "seconds": round(result.seconds, 3),
            "parameters": result.parameters,
            "bpp": _write_encoded(folder / ENCODED, picture, result, run),
        }
    )
    metrics = write_metrics(folder / "metrics.json", numbers, run.seed, run.torch_device())
    write_fit_page(folder / PAGE, truth, ours, variant, result.history, numbers)
    return metrics


def rehearse_writing(picture: Picture) -> float:
    """Seconds that metrics, pictures and charts of a fit will take.

    They are estimated by writing some rows of the picture and an empty chart, which also loads the libraries.
    """
    rows = min(picture.height, REHEARSED_ROWS)
    part = dataclasses.replace(picture, pixels=picture.pixels[:rows])
    truth = ImageTask(part).to_8bit(part.pixels)
    encoded_picture(Picture(error_map(truth[:1], truth[:1]), "png"))  # first, untimed: loads libraries
    with Timed() as by_rows:
        image_metrics(truth, truth)
        encoded_picture(part)
        error = error_map(truth, truth[::-1])
        encoded_picture(Picture(error, "png"))
        for shown in (truth, truth, error):  # the page's pictures, of which it shrinks large ones
            data_uri(shown)
    new_figure()  # loads matplotlib
    line_panels({"": []}, ("",), ("",))  # loads plotly
    with Timed() as by_charts:
        new_figure(1, 2)[0].savefig(io.BytesIO(), dpi=CHART_DPI)
    return by_rows.seconds * picture.height / rows + CHARTS * by_charts.seconds


def draw_history(histories: Mapping[Variant, Sequence[Mapping[str, float]]], path: Path) -> None:
    """PSNR during the fits."""
    draw_curves(histories.items(), "psnr", "PSNR (dB)", path)


def draw_bands(history: Sequence[Mapping[str, float]], bands: Sequence[str], path: Path) -> None:
    """Relative error of each frequency band against steps, low frequencies dark."""
    from matplotlib import colormaps

    figure, axes = new_figure(1, 1, (5.0, 3.4))
    panel = axes[0, 0]
    for index, band in enumerate(bands):
        steps = [row["step"] for row in history if row.get(band, 0) > 0]
        errors = [row[band] for row in history if row.get(band, 0) > 0]
        shade = colormaps["viridis"](index / max(1, len(bands) - 1))
        panel.plot(steps, errors, color=shade, label=band.removeprefix(BAND))
    panel.set_yscale("log")
    panel.set_xlabel("steps")
    panel.set_ylabel("energy of error / energy of image")
    if bands:
        panel.legend(title="cycles per pixel", fontsize=7, title_fontsize=7)
    save_figure(figure, path)


def _write_encoded(path: Path, picture: Picture, result: ImageFit, run: ImageRunOptions) -> float | None:
    """Write the image in half precision; returns bits per pixel, or None if the format cannot hold it."""
    try:
        data = encode_network(picture, result.network, PrecisionOptions("fp16"), run).data
    except UserError:
        return None
    write_whole(path, data)
    return bits_per_pixel(data, picture)


def psnr_as_written(truth: Image8, reconstruction: Picture) -> float:
    """PSNR in dB of a reconstruction after writing it in a lossy format and reading it back."""
    written = picture_of(encoded_picture(reconstruction), "the reconstruction")
    return psnr(truth, written.value_range().to_8bit(written.pixels))


def _without_infinity(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Replace an infinite PSNR, of a perfect reconstruction, by None, because JSON has no infinity."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in metrics.items()
    }
