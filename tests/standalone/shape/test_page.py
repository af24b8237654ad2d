"""The page: it is served, shows what it is given, and says where it is."""

from __future__ import annotations

import urllib.request

import pytest
import trimesh

from benchmarks.serving import free_port
from standalone.shape.page import ShapePage


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_page_is_served_and_takes_reconstructions() -> None:
    port = free_port()
    true = trimesh.creation.icosphere(radius=0.8)
    page = ShapePage(true, "ball", port=port)
    try:
        assert page.url == f"http://127.0.0.1:{port}"
        assert urllib.request.urlopen(page.url, timeout=30).status == 200
        page.show(None, "step 1")
        assert "no surface" in page._status.content
        page.show(trimesh.creation.icosphere(radius=0.78), "step 2")
        assert "step 2" in page._status.content
        assert "mean distance 1.0" in page._status.content
        other = ShapePage(true, "ball", port=port)
        try:
            assert other.url != page.url
        finally:
            other.close()
    finally:
        page.close()
