"""The demo: train without and with batch norm on the embedded scene, evaluate, and draw the comparison.

`make demo` runs it. The logs of nerfstudio's commands, the picture and the numbers land in outputs/demo.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from bn_field_plugin.data.demo_scene import DemoScene
from bn_field_plugin.errors import exit_on_user_error
from standalone.interrupts import exit_on_interrupt
from standalone.sweep.nerfstudio_commands import evaluate, train

METHODS = {"ngp": "without batch norm", "bn-ngp": "with batch norm"}
"""Method and caption, in the order of the picture."""

ADAM = "--optimizers.fields.optimizer."
"""Beginning of the names of Adam's options."""

BEST = {
    "ngp": (f"{ADAM}lr", "4e-2", f"{ADAM}betas", "0.9", "0.95"),
    "bn-ngp": (f"{ADAM}lr", "1e-2"),
}
"""Options that give each method its best Adam on this scene, by `benchmarks.ngp_gain`."""

CROPS = ((66, 64, 60, 60), (118, 128, 60, 60))
"""Parts of the first held-out view that are shown enlarged: left, top, width, height in pixels."""


@dataclass(frozen=True)
class Demo:
    """Train ngp and bn-ngp on the demo scene for the same steps, and compare held-out views."""

    steps: int = 500
    """Training steps of each method."""
    seed: int = 0
    """Seed of both runs."""
    output_dir: Path = Path("outputs/demo")
    """Folder for runs, renders, picture and numbers; an earlier demo there is replaced."""


def main(config: Demo) -> None:
    """Run the demo and print where its results are."""
    start = time.perf_counter()
    console = Console(highlight=False)
    output_dir = config.output_dir
    shutil.rmtree(output_dir, ignore_errors=True)
    DemoScene().ensure()  # rendering shows a progress bar of its own
    metrics, views = {}, {}
    for method, caption in METHODS.items():
        with _bar(console, f"training {caption}") as watch:
            run = train(
                method,
                ["bn-demo-data"],
                output_dir / method,
                steps=config.steps,
                seed=config.seed,
                options=BEST[method],
                watch=watch,
            )
        with _bar(console, f"rendering {caption}"):
            metrics[method] = evaluate(run, views=output_dir / method / "views")
        found = metrics[method]
        console.print(
            f"{caption}: {found['psnr']:.2f} dB, SSIM {found['ssim']:.3f} on held-out views after "
            f"{config.steps} steps, {run.cost.seconds:.0f} s of the training command",
            soft_wrap=True,
        )
        # nerfstudio writes the true view and the rendered one side by side.
        with Image.open(output_dir / method / "views" / "eval_img_0000.png") as pair:
            views["true"], views[method] = np.split(np.asarray(pair.convert("RGB")), 2, axis=1)
    panels = [("ground truth", views["true"])]
    panels += [
        (f"{caption}, {metrics[method]['psnr']:.2f} dB", views[method]) for method, caption in METHODS.items()
    ]
    picture = output_dir / "demo.png"
    draw_panels(panels, CROPS).save(picture, optimize=True)
    summary = {
        "steps": config.steps,
        "seed": config.seed,
        "psnr": {method: metrics[method]["psnr"] for method in METHODS},
        "ssim": {method: metrics[method]["ssim"] for method in METHODS},
        "seconds": round(time.perf_counter() - start, 1),
    }
    (output_dir / "demo.json").write_text(json.dumps(summary, indent=2) + "\n")
    console.print(
        f"picture: {picture}, numbers: {output_dir / 'demo.json'} ({summary['seconds']:.0f} s)",
        soft_wrap=True,
    )


@contextmanager
def _bar(console: Console, what: str) -> Iterator:
    """Show a progress bar while a command runs, or one line where the output is no terminal."""
    if not console.is_terminal:
        console.print(f"{what} ...")
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None)

        def watch(share: float) -> None:
            if share > 0:
                progress.update(task, total=1.0, completed=share)

        yield watch


def draw_panels(
    panels: Sequence[tuple[str, np.ndarray]],
    crops: Sequence[tuple[int, int, int, int]] = (),
    scale: int = 2,
    margin: int = 8,
) -> Image.Image:
    """Pictures side by side, enlarged parts of each beneath it, and a caption under them.

    Args:
        panels: caption and picture, (height, width, 3) 8-bit, all of one size.
        crops: left, top, width and height of the parts, which share a panel's width evenly.
        scale: whole-number magnification of the pictures, without smoothing.
        margin: pixels between the panels, and between their parts.
    """
    height, width = (scale * side for side in panels[0][1].shape[:2])
    part = (width - margin * (len(crops) - 1)) // len(crops) if crops else 0
    bar = 26
    below = height + (margin + part if crops else 0)
    canvas = Image.new("RGB", (len(panels) * (width + margin) - margin, below + bar), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(16)
    for index, (caption, picture) in enumerate(panels):
        left = index * (width + margin)
        image = Image.fromarray(picture)
        canvas.paste(image.resize((width, height), Image.Resampling.NEAREST), (left, 0))
        for number, (x, y, w, h) in enumerate(crops):
            enlarged = image.crop((x, y, x + w, y + h)).resize((part, part), Image.Resampling.NEAREST)
            canvas.paste(enlarged, (left + number * (part + margin), height + margin))
        draw.text((left + width / 2, below + bar / 2), caption, fill="black", font=font, anchor="mm")
    return canvas


if __name__ == "__main__":
    with exit_on_user_error(), exit_on_interrupt():
        main(tyro.cli(Demo))
