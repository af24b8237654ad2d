"""The page of shapes as a user sees it, in Chromium."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from benchmarks.serving import free_port
from standalone.shape.page import ShapePage
from tests.viewer.browser import keep_screenshot, needs_chromium, opened, picture, settled

pytestmark = pytest.mark.slow


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_both_shapes_and_the_error_are_seen() -> None:
    """Choices on the page change the picture, and the status line gives the error."""
    needs_chromium()
    port = free_port()
    shape = ShapePage(trimesh.creation.icosphere(radius=0.8), "ball", port=port)
    try:
        with opened(port) as page:
            page.get_by_text("no reconstruction yet").wait_for()
            alone = settled(page)
            shape.show(trimesh.creation.box((1.2, 1.2, 1.2)), "step 3")
            page.get_by_text("mean distance").wait_for()
            colored = settled(page, lambda now: np.abs(now - alone).mean() > 0.003)
            keep_screenshot(page, "shape")
            page.get_by_label("Error colours").uncheck()
            plain = settled(page, lambda now: np.abs(now - colored).mean() > 0.003)
            page.get_by_label("Overlay").check()
            settled(page, lambda now: np.abs(now - plain).mean() > 0.003)
            assert picture(page).std() > 0.01
    finally:
        shape.close()
