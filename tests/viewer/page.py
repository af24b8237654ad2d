"""nerfstudio's viewer on a tiny pipeline, in this process, without a browser."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.viewer.viewer import Viewer

from benchmarks.serving import free_port
from bn_field_plugin.engine.locks import FairLock
from bn_field_plugin.engine.pipeline import BNPipeline
from bn_field_plugin.viewer.live import LiveViewer
from tests.viewer.cases import trained_pipeline


@contextmanager
def live_viewer(
    capture: Path, folder: Path, training: bool = False, port: int | None = None
) -> Iterator[tuple[LiveViewer, int]]:
    """The viewer of a pipeline after some steps, made as the commands make it, and its port."""
    pipeline: BNPipeline = trained_pipeline(capture)
    trainer: Any = SimpleNamespace(training_state="training") if training else None
    port = free_port() if port is None else port
    config = ViewerConfig(websocket_port=port, websocket_host="127.0.0.1", image_format="png")
    viewer: Any = Viewer(
        config,
        folder / "viewer.log",
        capture,
        pipeline,
        trainer=trainer,
        train_lock=FairLock(),  # type: ignore[arg-type]
    )
    try:
        viewer.init_scene(pipeline.datamanager.train_dataset, "training" if training else "completed")
        yield viewer, port
    finally:
        viewer.stop_drawing()
        viewer.viser_server.stop()


@contextmanager
def steps(viewer: LiveViewer, seconds: float = 0.005) -> Iterator[list[int]]:
    """Run steps of a training that only takes the lock, and yield the list of finished steps."""
    done: list[int] = []
    over = threading.Event()

    def train() -> None:
        while not over.is_set():
            with viewer.train_lock or contextlib.nullcontext():
                over.wait(seconds)
                done.append(len(done))
            viewer.update_scene(done[-1])

    thread = threading.Thread(target=train)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join(20)
