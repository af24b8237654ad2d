"""Rate and distortion of `bn-image encode` against COIN's published points and JPEG."""

from __future__ import annotations

import io
import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image

from benchmarks import RESULTS
from benchmarks.image_pictures import load
from bn_field_plugin.allocator import keep_freed_memory
from bn_field_plugin.errors import exit_on_user_error
from standalone.image.codec.coding import PrecisionOptions
from standalone.image.codec.encoder import encode_picture
from standalone.image.fit import ImageRunOptions
from standalone.image.images import Picture
from standalone.image.metrics import psnr
from standalone.networks import Variant
from standalone.optimization import OptimizationConfig
from standalone.options import NetworkOptions
from standalone.plots import color, new_figure, save_figure
from standalone.provenance import command_behind
from standalone.report import Cell, machine_facts, write_table

COIN = (
    (0.0368, 22.408),
    (0.0736, 23.205),
    (0.1604, 24.641),
    (0.3074, 26.412),
    (0.6109, 28.408),
    (1.209, 30.644),
)
"""COIN's published bits per pixel and PSNR in dB, means over Kodak's 24 images (results.json of its code)."""

QUALITIES = (1, 2, 4, 6, 8, 10, 12, 15, 18, 22, 26, 30, 36, 42, 50, 60, 70)
"""Qualities of JPEG."""

Point = tuple[float, float]
"""Bits per pixel and PSNR in dB."""


@dataclass(frozen=True)
class ImageRateDistortion:
    """Encode each image at each rate."""

    images: tuple[str, ...] = ("astronaut",)
    """Paths, for instance of kodim15.png and kodim23.png, or names in scikit-image."""
    rates: tuple[float, ...] = (0.07, 0.15, 0.3, 0.4)
    """Bits per pixel."""
    steps: int = 2000
    """Steps of each fit."""
    batch_size: int = 2**14
    """Pixels of a step."""
    finetune_steps: int = 300
    """Steps of fine-tuning with rounded weights."""
    variants: tuple[str, ...] = ("siren+batch", "pemlp-5+batch", "siren")
    """Networks; the width follows from the rate."""
    depth: int = 8
    """Hidden layers."""
    seed: int = 0
    """Seed."""
    threads: int = 2
    """Threads of torch."""


def jpeg_points(picture: Picture) -> list[Point]:
    """JPEG's rates and distortions, with Pillow's optimised tables."""
    points = []
    for quality in QUALITIES:
        buffer = io.BytesIO()
        Image.fromarray(picture.pixels.squeeze()).save(buffer, "JPEG", quality=quality, optimize=True)
        with Image.open(buffer) as decoded:
            pixels = np.asarray(decoded).reshape(picture.pixels.shape)
        rate = 8 * buffer.tell() / (picture.height * picture.width)
        points.append((rate, psnr(picture.pixels, pixels)))
    return points


def interpolated(points: list[Point] | tuple[Point, ...], rate: float) -> float | None:
    """PSNR at a rate, linear in the logarithm of the rate; None outside the points."""
    rates, scores = zip(*sorted(points), strict=True)
    if not rates[0] <= rate <= rates[-1]:
        return None
    return round(float(np.interp(np.log(rate), np.log(rates), scores)), 2)


def main(config: ImageRateDistortion) -> None:
    """Run, and write benchmarks/results/image_rate_distortion (table and plot)."""
    keep_freed_memory()
    torch.set_num_threads(config.threads)
    start = time.perf_counter()
    rows: list[dict[str, Cell]] = []
    figure, axes = new_figure(1, len(config.images), (4.4, 3.4))
    for panel, image in zip(axes[0], config.images, strict=True):
        picture = load(image)
        jpeg = jpeg_points(picture)
        curves: dict[Variant, list[Point]] = {}
        for variant, rate in itertools.product(map(Variant.parse, config.variants), config.rates):
            file = encode_picture(
                picture,
                NetworkOptions(variant.network, variant.norm, depth=config.depth),
                ImageRunOptions(
                    steps=config.steps,
                    eval_every=config.steps,
                    seed=config.seed,
                    batch_size=config.batch_size,
                ),
                OptimizationConfig(),
                PrecisionOptions(finetune_steps=config.finetune_steps),
                bpp=rate,
                show_progress=False,
            )
            coin, other = interpolated(COIN, file.bpp), interpolated(jpeg, file.bpp)
            curves.setdefault(variant, []).append((file.bpp, file.psnr))
            row: dict[str, Cell] = {
                "image": Path(image).stem,
                "network": variant.label,
                "layers x width": f"{file.network.depth}x{file.network.width}",
                "bytes": len(file.data),
                "bpp": round(file.bpp, 4),
                "PSNR dB": round(file.psnr, 2),
                "before rounding": round(file.fit_psnr, 2),
                "COIN (Kodak mean)": coin,
                "over COIN": None if coin is None else f"{file.psnr - coin:+.2f}",
                "JPEG": other,
                "over JPEG": None if other is None else f"{file.psnr - other:+.2f}",
                "encode s": round(file.seconds, 1),
            }
            rows.append(row)
            print(f"{time.perf_counter() - start:.0f} s: {row}", flush=True)
        panel.plot(*zip(*COIN, strict=True), "s--", color="#8c8c8c", label="COIN, Kodak mean")
        panel.plot(*zip(*jpeg, strict=True), "-", color="#dd8452", label="JPEG")
        for variant, points in curves.items():
            panel.plot(
                *zip(*points, strict=True), "o-", color=color(variant), label=f"bn-image, {variant.label}"
            )
        panel.set(
            xlabel="bits per pixel", ylabel="PSNR (dB)", title=Path(image).stem, xlim=(0, 1), ylim=(20, 36)
        )
        panel.legend(loc="lower right")
    save_figure(figure, RESULTS / "image_rate_distortion.png", dpi=100)
    facts: dict[str, Cell] = {
        **machine_facts(),
        "steps": config.steps,
        "finetune steps": config.finetune_steps,
        "seed": config.seed,
        "minutes": round((time.perf_counter() - start) / 60, 1),
    }
    notes = [
        "bpp counts all bytes of the file; PSNR is that of the decoded file.",
        "COIN's points are published as means over the 24 images of Kodak, here interpolated at our rate; "
        "they are not of these images.",
        "Empty: outside the curve's rates. Targets: at least +1.5 dB over COIN at 0.3 bpp, and ahead of JPEG "
        "up to 0.4 bpp.",
    ]
    names = " ".join(Path(image).name for image in config.images)
    command = command_behind(
        f"python -m benchmarks.image_rate_distortion --images {names}", config, ("images",)
    )
    write_table("image_rate_distortion", "Rate and distortion", command, rows, facts, notes, folder=RESULTS)


if __name__ == "__main__":
    with exit_on_user_error():
        main(tyro.cli(ImageRateDistortion))
