"""The demo: train with and without batch norm on the embedded scene, evaluate, and draw the comparison.

`make demo` runs it. Progress is nerfstudio's own; the picture and the numbers land in outputs/demo.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image, ImageDraw, ImageFont

METHODS = {"nerf-small": "without BN", "bn-nerf-small": "with BN"}
"""Method and caption, in the order of the picture."""


@dataclass(frozen=True)
class Demo:
    """Train nerf-small and bn-nerf-small on the demo scene for the same steps, and compare held-out views."""

    steps: int = 1200
    """Training steps of each method."""
    seed: int = 0
    """Seed of both runs."""
    view: int = 0
    """Held-out view that the picture shows."""
    output_dir: Path = Path("outputs/demo")
    """Folder for runs, renders, picture and numbers; an earlier demo there is replaced."""


def main(config: Demo) -> None:
    """Run the demo and print where its results are."""
    start = time.perf_counter()
    shutil.rmtree(config.output_dir, ignore_errors=True)
    metrics, views = {}, {}
    for method, caption in METHODS.items():
        print(f"\n=== {method} ({caption}): {config.steps} steps ===", flush=True)
        folder = config.output_dir / method
        _nerfstudio(
            *("ns-train", method, "--output-dir", config.output_dir, "--experiment-name", "runs"),
            *("--timestamp", "0", "--vis", "tensorboard", "--max-num-iterations", config.steps),
            *("--machine.seed", config.seed, "--machine.device-type", _device()),
            *(
                "--steps-per-eval-image",
                10**9,
                "--steps-per-eval-batch",
                10**9,
                "--steps-per-eval-all-images",
                10**9,
            ),
            "bn-demo-data",
        )
        run = config.output_dir / "runs" / method / "0"
        _nerfstudio(
            *("ns-eval", "--load-config", run / "config.yml", "--output-path", folder / "eval.json"),
            *("--render-output-path", folder / "views"),
        )
        metrics[method] = json.loads((folder / "eval.json").read_text())["results"]
        # nerfstudio writes the true view and the rendered one side by side.
        pair = np.asarray(Image.open(folder / "views" / f"eval_img_{config.view:04d}.png").convert("RGB"))
        views["true"], views[method] = np.split(pair, 2, axis=1)
    panels = [("ground truth", views["true"])]
    panels += [
        (f"{caption}, {metrics[method]['psnr']:.2f} dB", views[method]) for method, caption in METHODS.items()
    ]
    picture = config.output_dir / "demo.png"
    draw_panels(panels).save(picture, optimize=True)
    summary = {
        "steps": config.steps,
        "seed": config.seed,
        "psnr": {method: metrics[method]["psnr"] for method in METHODS},
        "ssim": {method: metrics[method]["ssim"] for method in METHODS},
        "seconds": round(time.perf_counter() - start, 1),
    }
    (config.output_dir / "demo.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(f"\nMean PSNR on held-out views after {config.steps} steps:")
    for method, caption in METHODS.items():
        print(f"  {caption:11s} {summary['psnr'][method]:6.2f} dB   SSIM {summary['ssim'][method]:.3f}")
    print(f"Picture: {picture}\nNumbers: {config.output_dir / 'demo.json'}   ({summary['seconds']:.0f} s)")


def draw_panels(panels: Sequence[tuple[str, np.ndarray]], scale: int = 2, margin: int = 8) -> Image.Image:
    """Pictures side by side with a caption under each.

    Args:
        panels: caption and picture, (height, width, 3) 8-bit, all of one size.
        scale: whole-number magnification, without smoothing.
        margin: pixels between the panels.
    """
    height, width = (scale * side for side in panels[0][1].shape[:2])
    bar = 26
    canvas = Image.new("RGB", (len(panels) * (width + margin) - margin, height + bar), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(16)
    for index, (caption, picture) in enumerate(panels):
        left = index * (width + margin)
        canvas.paste(Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST), (left, 0))
        draw.text((left + width / 2, height + bar / 2), caption, fill="black", font=font, anchor="mm")
    return canvas


def _nerfstudio(*args: object) -> None:
    """Run a command with its output shown; end with its status if it fails."""
    command = [str(Path(sys.executable).with_name(str(args[0]))), *map(str, args[1:])]
    status = subprocess.run(command).returncode
    if status != 0:
        sys.exit(status)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


if __name__ == "__main__":
    main(tyro.cli(Demo))
