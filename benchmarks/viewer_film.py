"""Four screenshots of the viewer on the demo scene, for the docs: opening, training, moving, comparing.

The command trains bn-ngp while a browser watches and ngp without a browser, and shows both. It takes three
minutes on two cores.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from PIL import Image, ImageDraw, ImageFont

from benchmarks.browser import PATIENCE, Tab, chromium, opened
from benchmarks.serving import free_port, served
from standalone.sweep.nerfstudio_commands import TrainedRun, train

FILM = Path("docs/images/viewer.jpg")
"""The film strip, in the repository."""
WINDOW = 1200, 860
"""Width and height of the browser's window in pixels."""
CAPTIONS = {
    "opening": "ns-viewer: the first view",
    "training": "ns-train --vis viewer: while it trains",
    "moving": "while the camera moves",
    "comparing": "bn-view: two runs, one camera",
}
"""Names of the screenshots, and their captions."""
LAST_WIDTH = 512
"""Width in pixels of the last picture that the viewer renders of a view: nerfstudio's "Max res"."""
MOST_BYTES = 300_000
"""Most bytes that the film strip may have."""


@dataclass(frozen=True)
class ViewerFilm:
    """Take the screenshots."""

    steps: int = 500
    """Training steps of each of the two runs."""
    seed: int = 0
    """Seed of both runs."""
    output_dir: Path = Path("outputs/viewer_film")
    """Folder of the runs and of the screenshots in full size; what is there is replaced."""
    film: Path = FILM
    """The film strip."""


def main(config: ViewerFilm) -> None:
    """Take the screenshots and join them.

    Raises:
        SystemExit: Chromium is absent, or a training has failed.
    """
    if chromium() is None:
        sys.exit("needs Chromium (on Debian: apt-get install chromium), which is absent")
    folder = config.output_dir
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    bn = trained_in_sight(config)
    plain = train("ngp", ["bn-demo-data"], folder / "ngp", steps=config.steps, seed=config.seed)
    look_at(folder, bn.config, plain.config)
    print(f"{config.film}: {join(folder, config.film)} bytes")


def look_at(folder: Path, bn: Path, plain: Path) -> None:
    """Take the screenshots of trained runs.

    Args:
        folder: gets them.
        bn: config.yml of the run of bn-ngp.
        plain: config.yml of the other.
    """
    with (
        served(("ns-viewer", "--load-config", bn), folder / "ns-viewer.log") as (_, port),
        opened(port, *WINDOW) as tab,
    ):
        finished_picture(tab)
        keep(tab, folder, "opening")
        moved = time.time()
        while tab.pictures[-1].time < moved:
            tab.drag(1.0)
        tab.page.screenshot(path=folder / "moving.png")
    with (
        served(("bn-view", bn, plain), folder / "bn-view.log") as (_, port),
        opened(port, *WINDOW) as tab,
    ):
        finished_picture(tab)
        keep(tab, folder, "comparing")


def trained_in_sight(config: ViewerFilm) -> TrainedRun:
    """Train bn-ngp with the viewer, and take a screenshot half-way."""
    port, folder = free_port(), config.output_dir

    def look(share: float) -> None:
        if share < 0.3 or (folder / "training.png").exists():
            return
        with opened(port, *WINDOW) as tab:
            tab.wait_until(lambda: tab.pictures and tab.step > 0.5 * config.steps)
            keep(tab, folder, "training")

    return train(
        "bn-ngp",
        ["bn-demo-data"],
        folder / "bn-ngp",
        steps=config.steps,
        seed=config.seed,
        options=(
            *("--vis", "viewer", "--viewer.quit-on-train-completion", "True"),
            *("--viewer.websocket-port", str(port), "--viewer.websocket-host", "127.0.0.1"),
        ),
        watch=look,
    )


def finished_picture(tab: Tab) -> None:
    """Wait for a picture that gets no sharper."""
    tab.wait_until(lambda: tab.pictures and tab.pictures[-1].width == LAST_WIDTH, 10 * PATIENCE)
    tab.wait(2)  # the picture counts as shown while tiles are still missing


def keep(tab: Tab, folder: Path, name: str) -> None:
    """Save a screenshot of the page."""
    tab.page.get_by_text("effective rank").first.wait_for()
    tab.page.mouse.move(5, 5)  # the mouse would make the page show hints
    tab.wait(1)
    tab.page.screenshot(path=folder / f"{name}.png")


def join(folder: Path, film: Path, columns: int = 2, scale: float = 0.6, margin: int = 10) -> int:
    """Write the film strip, with the best quality that its size in bytes allows.

    Args:
        folder: that of the screenshots.
        film: the file.
        columns: screenshots side by side.
        scale: of the screenshots.
        margin: pixels between them.

    Returns:
        Its bytes.
    """
    width, height = (round(scale * side) for side in WINDOW)
    font, bar = ImageFont.load_default(18), 28
    rows = -(-len(CAPTIONS) // columns)
    size = columns * (width + margin) - margin, rows * (height + bar + margin) - margin
    strip = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(strip)
    for index, (name, caption) in enumerate(CAPTIONS.items()):
        left, top = index % columns * (width + margin), index // columns * (height + bar + margin)
        with Image.open(folder / f"{name}.png") as shot:
            small = shot.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
        strip.paste(small, (left, top))
        draw.text((left + width / 2, top + height + bar / 2), caption, fill="black", font=font, anchor="mm")
    return save_below(strip, film, MOST_BYTES)


def save_below(
    image: Image.Image, path: Path, most: int, qualities: Sequence[int] = (90, 85, 80, 70, 60)
) -> int:
    """Save as JPEG at the best quality that fits; tells the bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for quality in qualities:
        image.save(path, quality=quality, optimize=True)
        if path.stat().st_size < most:
            break
    return path.stat().st_size


if __name__ == "__main__":
    main(tyro.cli(ViewerFilm))
