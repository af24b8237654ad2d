"""Figures: panels are always a grid, files are whole, and styles follow the network and the norm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bn_field_plugin.nn.norms import NORMS
from standalone.networks import Variant
from standalone.plots import color, linestyle, name_lines, new_figure, save_figure


def test_a_figure_is_written_whole_in_its_size(tmp_path: Path) -> None:
    figure, axes = new_figure(2, 3, size=(2.0, 1.0))
    assert axes.shape == (2, 3)
    axes[0, 0].plot([0, 1], [1, 0])
    save_figure(figure, tmp_path / "new" / "figure.png", dpi=50)
    assert Image.open(tmp_path / "new" / "figure.png").size == (300, 100)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["figure.png"]


def test_a_palette_shows_the_figure_in_256_colours(tmp_path: Path) -> None:
    figure, axes = new_figure()
    axes[0, 0].imshow(np.linspace(0, 1, 64 * 64).reshape(64, 64))
    save_figure(figure, tmp_path / "full.png", dpi=50)
    save_figure(figure, tmp_path / "small.png", dpi=50, palette=True)
    small = Image.open(tmp_path / "small.png")
    assert small.mode == "P"
    ours, full = (
        np.asarray(image.convert("RGB"), np.int16) for image in (small, Image.open(tmp_path / "full.png"))
    )
    assert ours.shape == full.shape
    assert np.abs(ours - full).mean() < 3 < full.std()


def test_one_panel_is_a_grid_too() -> None:
    assert new_figure()[1].shape == (1, 1)


def test_colour_tells_the_network_and_line_the_norm() -> None:
    networks = ("mlp", "pemlp-1", "pemlp-5", "siren", "fourier", "hash", "finer", "wire", "gauss")
    assert len({color(Variant(network)) for network in networks}) == len(networks)
    assert color(Variant("hash-8")) == color(Variant("hash"))
    assert color(Variant("pemlp-7")) == color(Variant("pemlp-7", "batch"))
    assert len({linestyle(Variant("mlp", norm)) for norm in NORMS}) == len(NORMS)


@pytest.mark.parametrize("lines", [3, 20])
def test_names_stand_in_the_panel_unless_they_hide_it(lines: int) -> None:
    figure, axes = new_figure()
    for line in range(lines):
        axes[0, 0].plot([0, 1], label=str(line))
    name_lines(figure, axes[0, 0])
    assert (axes[0, 0].get_legend() is None) == (lines == 20)
    assert bool(figure.legends) == (lines == 20)
