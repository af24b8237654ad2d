"""The viewer as a newcomer sees it: bn-nerf-small on the demo scene, in Chromium, during training and after.

One process trains with the viewer and notes when steps begin and end. The browser opens the page, does
nothing for a while, drags the view, closes the tab while a picture is made, and comes back for the end. Then
ns-viewer shows the checkpoint. The command takes some six minutes on two cores.
"""

from __future__ import annotations

import math
import multiprocessing
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tyro
from PIL import Image

from benchmarks import RESULTS
from benchmarks.browser import PATIENCE, Picture, Tab, chromium, opened
from benchmarks.serving import START, free_port, page, served, wait_for
from benchmarks.viewer_panel import settings_of
from standalone.report import Cell, machine_facts, write_table

READABLE = 96
"""Width in pixels from which on a picture counts as readable."""


@dataclass(frozen=True)
class ViewerLife:
    """Measure how soon a user sees pictures, and how much the viewer slows training down."""

    steps: int = 700
    """Training steps; they must take longer than the browser's visit of some 80 s."""
    rest: float = 50.0
    """Seconds that the tab is left alone while training."""
    drag: float = 8.0
    """Seconds of a drag."""
    seed: int = 0
    """Seed of training."""
    output_dir: Path = Path("outputs/viewer_life")
    """Folder of the run and of screenshots; the table lands in benchmarks/results."""
    run: Path | None = None
    """Folder of a run whose checkpoint is looked at, without training and without a table."""


@dataclass(frozen=True)
class Target:
    """One line of the table."""

    what: str
    target: str
    seen: str
    met: bool


def main(config: ViewerLife) -> None:
    """Measure, and write the table.

    Raises:
        SystemExit: Chromium is absent.
    """
    if chromium() is None:
        sys.exit("needs Chromium (on Debian: apt-get install chromium), which is absent")
    if config.run is not None:
        for target in checkpoint(config, config.run):
            print(target)
        return
    found, run = training(config)
    for target in found:
        print(target)
    found += checkpoint(config, run)
    rows: list[dict[str, Cell]] = [
        {"what": t.what, "target": t.target, "seen": t.seen, "met": "yes" if t.met else "no"} for t in found
    ]
    facts = {**machine_facts(), "steps": config.steps, "seed": config.seed}
    title = "The viewer as a newcomer meets it, bn-nerf-small on the demo scene, in Chromium"
    notes = ["The browser runs on the same cores, and draws its page by the CPU."]
    write_table("viewer_life", title, "python -m benchmarks.viewer_life", rows, facts, notes, folder=RESULTS)


# --------------------------------------------------------------------------------------- while training


def train(config: ViewerLife, port: int, now: Any, pipe: Any) -> None:
    """Train with the viewer up, in a process of its own.

    Args:
        config: the benchmark.
        port: of the viewer.
        now: shared, the step under way.
        pipe: takes the folder of the run at first, then the steps' (begin, end) and the idle tabs' share.
    """
    settings = settings_of(config.steps, config.seed, config.output_dir, port)
    settings.save_config()
    trainer = settings.setup(local_rank=0, world_size=1)
    trainer.setup()
    pipe.send(settings.get_base_dir())
    times: list[tuple[float, float]] = []
    iteration = trainer.train_iteration

    def timed(step: int) -> Any:
        begin = time.time()
        now.value = step
        found = iteration(step)
        times.append((begin, time.time()))
        return found

    def complete() -> None:  # nerfstudio would wait for Ctrl-C here
        trainer.viewer_state.training_complete()
        budget = trainer.viewer_state._refresh
        pipe.send((times, budget.spent, budget.elapsed))
        pipe.recv()

    trainer.train_iteration, trainer._train_complete_viewer = timed, complete
    trainer.train()
    trainer.shutdown()


def training(config: ViewerLife) -> tuple[list[Target], Path]:
    """Watch training in the browser.

    Returns:
        Lines of the table, and the folder of the run.
    """
    context = multiprocessing.get_context("spawn")
    now, (mine, theirs), port = context.Value("i", 0), context.Pipe(), free_port()
    process = context.Process(target=train, args=(config, port, now, theirs), daemon=True)
    process.start()
    run: Path = mine.recv()
    wait_for(lambda: page(port), START)
    while now.value < 20:
        time.sleep(0.1)
    alone = (time.time(), now.value)
    time.sleep(8)
    alone_rate = (now.value - alone[1]) / (time.time() - alone[0])
    with opened(port, 1300, 900) as tab:
        tab.wait_until(lambda: tab.pictures)
        tab.wait(6)  # time for the first view to be drawn
        begin, behind, start = time.time(), [], now.value
        while time.time() - begin < config.rest:
            shown = tab.step
            behind.append(abs(now.value - shown))
            tab.wait(0.5)
        rest = (begin, time.time())
        rest_rate = (now.value - start) / (rest[1] - rest[0])
        tab.page.screenshot(path=config.output_dir / "training.png")
        drag = [time.time()]
        tab.drag(config.drag)
        drag.append(time.time())
        idle, moved = during(tab.pictures, rest), during(tab.pictures, (drag[0], drag[1]))
        tab.wait(0.5)  # the picture after the move has begun by then
        closed = time.time()
    with opened(port, 1300, 900) as tab:
        while not mine.poll():
            tab.wait(0.2)
        times, spent, elapsed = mine.recv()
        tab.wait_until(lambda: tab.pictures and tab.pictures[-1].width == 512, 60)
        tab.wait(1)
        last_step, last = tab.step, tab.pictures[-1]
        buttons = tab.page.get_by_role("button", name=re.compile("(Pause|Resume) Training")).count()
        tab.page.screenshot(path=config.output_dir / "trained.png")
    mine.send(None)
    process.join(PATIENCE)
    # Gaps between steps are times in which training waits, for the viewer or, some milliseconds, for the
    # trainer's own work.
    gaps = [(late[0] - early[1], early[1]) for early, late in pairwise(times)]
    held = max(gap for gap, _ in gaps)
    later = [begin for begin, _ in times if begin > closed]
    if not later:
        sys.exit("training ended before the tab was closed: give more --steps, or less --rest")
    after = min(later) - closed
    shown_at = [rest[0], *(picture.time for picture in idle), rest[1]]
    news = max(late - early for early, late in pairwise(shown_at))
    wide, rate = min((p.width for p in moved), default=0), len(moved) / (drag[1] - drag[0])
    psnr = psnr_of(last, run)
    print(f"longest {sorted(gaps)[-5:]}, closed at {closed}")
    return [
        Target("training held by the viewer, longest", "1 s", f"{held:.2f} s", held <= 1),
        Target("next step after a tab is closed amid a picture", "1 s", f"{after:.2f} s", after <= 1),
        Target("idle tab while training: from picture to picture", "15 s", f"{news:.1f} s", news <= 15),
        Target(
            "idle tab: of the time beside it",
            "15%",
            f"{spent / max(elapsed, 1e-9):.1%}; {rest_rate:.2f} steps/s, {alone_rate:.2f} without a tab",
            spent <= 0.155 * elapsed,
        ),
        Target("step shown while training, largest error", "10", str(max(behind)), max(behind) <= 10),
        Target(
            "dragging while training (no target)",
            "",
            f"{rate:.1f} pictures/s, at least {wide} px wide",
            True,
        ),
        Target(
            "when training ends: step shown, PSNR of the final picture, buttons of training",
            f"{config.steps - 1}, above 15 dB, 0",
            f"{last_step}, {psnr:.1f} dB, {buttons}",
            last_step == config.steps - 1 and psnr > 15 and buttons == 0,
        ),
    ], run


def during(pictures: list[Picture], span: tuple[float, float]) -> list[Picture]:
    """The pictures that came in a span of time."""
    return [picture for picture in pictures if span[0] <= picture.time <= span[1]]


# ----------------------------------------------------------------------------------------- a checkpoint


def checkpoint(config: ViewerLife, run: Path) -> list[Target]:
    """Look at the checkpoint, twice from the start."""
    found: list[Target] = []
    words: list[str] = []
    codes: list[int] = []
    logs = ""
    for start in range(2):
        log = config.output_dir / f"ns-viewer-{start}.log"
        with served(("ns-viewer", "--load-config", run / "config.yml"), log) as (process, port):
            with opened(port, 1300, 900) as tab:
                tab.page.get_by_text("effective rank").wait_for()
                words.append(status_of(tab))
                if start == 0:
                    found += looks(config, run, process, tab)
            process.send_signal(signal.SIGINT)
            codes.append(process.wait(PATIENCE))
        logs += log.read_text(errors="replace")
    tracebacks = logs.count("Traceback")
    return [
        *found,
        Target(
            "two starts give the same numbers",
            "the same",
            "; ".join(dict.fromkeys(words)),
            words[0] == words[1],
        ),
        Target(
            "Ctrl-C of ns-viewer: exit codes, tracebacks",
            "0, none",
            f"{codes[0]} and {codes[1]}, {tracebacks or 'none'}",
            codes == [0, 0] and tracebacks == 0,
        ),
    ]


def looks(config: ViewerLife, run: Path, process: subprocess.Popen[bytes], tab: Tab) -> list[Target]:
    """Lines of the table about a visit to ns-viewer."""
    server = psutil.Process(process.pid)

    def work() -> float:
        spent = server.cpu_times()
        return float(spent.user + spent.system)

    tab.wait_until(lambda: tab.pictures)
    first = tab.pictures[0]
    tab.wait_until(lambda: tab.pictures[-1].width == 512)
    tab.wait(3)
    psnr, step = psnr_of(tab.pictures[-1], run), tab.step
    buttons = tab.page.get_by_role("button", name=re.compile("(Pause|Resume) Training")).count()
    in_sight = tab.page.get_by_text("effective rank").bounding_box()
    tab.page.screenshot(path=config.output_dir / "opened.png")
    tab.drag(1.0)
    tab.page.screenshot(path=config.output_dir / "moving.png")
    begin = time.time()
    tab.drag(config.drag)
    end = time.time()
    moved = during(tab.pictures, (begin, end))
    rate, wide = len(moved) / (end - begin), min((p.width for p in moved), default=0)
    tab.wait_until(lambda: tab.pictures[-1].width == 512)
    tab.wait(1)
    tab.drag(0.3)
    begin, spent = time.time(), [(time.time(), work())]

    def refined() -> bool:
        """Whether the viewer shows parts of the finer picture that follows the first full one."""
        spent.append((time.time(), work()))
        return tab.pictures[-1].time > begin and tab.pictures[-1].width == 512

    tab.wait_until(refined)
    full = max((p for p in tab.pictures if p.time > begin and p.width < 512), key=lambda p: p.time)
    seconds = full.time - begin
    cpu = min(w for t, w in spent if t >= full.time) - spent[0][1]
    tab.wait(6)
    plots = bars(tab)
    for field in ("field_coarse", "field_fine", "field_coarse", "field_fine"):
        tab.choose("Spectrum of", field)
        tab.wait(2)
    later = bars(tab)
    return [
        Target(
            "first picture: width; PSNR of the view against its photograph",
            f"{READABLE} px, above 15 dB",
            f"{first.width} px, {psnr:.1f} dB",
            first.width >= READABLE and psnr > 15,
        ),
        Target(
            "dragging in ns-viewer",
            f"3 pictures/s, {READABLE} px wide",
            f"{rate:.1f} pictures/s, at least {wide} px wide",
            rate >= 3 and wide >= READABLE,
        ),
        Target(
            "full picture after a move",
            "3 CPU s",
            f"{full.width} px wide in {cpu:.1f} CPU s, {seconds:.1f} s",
            cpu <= 3 and full.width > READABLE,
        ),
        Target(
            "panel: bars and lines after choosing a field and back, twice",
            "all stay",
            f"{plots} before, {later} after",
            plots.keys() == later.keys() and min(plots.values()) > 0 and min(later.values()) > 0,
        ),
        Target(
            "panel in sight at 1300 x 900",
            "yes",
            f"down to {in_sight['y'] + in_sight['height']:.0f} px" if in_sight else "no",
            in_sight is not None and in_sight["y"] + in_sight["height"] < 900,
        ),
        Target(
            "ns-viewer: step shown; buttons of training",
            f"{config.steps - 1}; 0",
            f"{step}; {buttons}",
            step == config.steps - 1 and buttons == 0,
        ),
    ]


def bars(tab: Tab) -> dict[str, int]:
    """How many bars or points are in each plot of the panel, by the first words of its title."""
    found = tab.page.locator(".js-plotly-plot").evaluate_all(
        """plots => plots.map(plot => [
            plot.layout.title.text.split(",")[0],
            plot.data.reduce((sum, trace) => sum + trace.y.length, 0),
        ])"""
    )
    return dict(found)


def status_of(tab: Tab) -> str:
    """The numbers of the panel."""
    text = tab.page.locator("body").inner_text()
    return " ".join(re.findall(r"effective rank [\d.]+|at most [\d.e-]+ sd", text))


def psnr_of(picture: Picture, run: Path) -> float:
    """PSNR of a picture of the first view against the photograph that was taken there, in dB.

    Args:
        picture: no narrower than the photograph.
        run: folder of the run, for its data.
    """
    from nerfstudio.utils.eval_utils import yaml

    from bn_field_plugin.viewer.outlook import widest

    settings = yaml.load((run / "config.yml").read_text(), Loader=yaml.Loader)
    outputs = settings.pipeline.datamanager.dataparser.setup().get_dataparser_outputs("train")
    photo = Image.open(outputs.image_filenames[widest(outputs.cameras)[0]]).convert("RGBA")
    white = Image.new("RGBA", photo.size, (255, 255, 255, 255))
    expected = np.asarray(Image.alpha_composite(white, photo).convert("RGB")) / 255
    pixels = (255 * picture.pixels).astype(np.uint8)
    height, width = pixels.shape[:2]
    side = min(height, width)  # the photographs are square, and shown whole
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(pixels[top : top + side, left : left + side]).resize(
        photo.size, Image.Resampling.BOX
    )
    return -10 * math.log10(float(((np.asarray(square) / 255 - expected) ** 2).mean()))


if __name__ == "__main__":
    main(tyro.cli(ViewerLife))
