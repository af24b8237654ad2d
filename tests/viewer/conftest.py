"""A tiny capture for all tests of the viewer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from nerfstudio.engine.trainer import writer


@pytest.fixture(scope="session")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # The import is inside, because pytest loads this file before `--shapes` takes effect.
    from tests.captures import write_blender_capture

    folder = tmp_path_factory.mktemp("viewer") / "blender"
    return write_blender_capture(folder, image_size=16, num_train=4, num_val=2, num_test=2)


@pytest.fixture(autouse=True)
def _fresh_writers() -> Iterator[None]:
    """Nerfstudio keeps its log writers in globals."""
    yield
    writer.EVENT_WRITERS.clear()
    writer.EVENT_STORAGE.clear()
    writer.GLOBAL_BUFFER.clear()
