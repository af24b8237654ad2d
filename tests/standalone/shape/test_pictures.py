"""Pictures of comparisons: one row of panels, or several where one would be too wide."""

from __future__ import annotations

from collections.abc import Sequence

import trimesh

from standalone.matching import STANDARD
from standalone.networks import parse_variants
from standalone.shape.compare import FIG_3D
from standalone.shape.contender import Contender
from standalone.shape.frames import Frame
from standalone.shape.inputs import ShapeInput
from standalone.shape.pictures import draw_contenders
from standalone.shape.shading import Viewpoint
from standalone.shape.solids import MeshSolid


def test_many_contenders_follow_one_another_in_rows() -> None:
    ball = trimesh.creation.icosphere(subdivisions=1, radius=0.6)
    shape = ShapeInput("ball", MeshSolid(ball), Frame((0.0, 0.0, 0.0), 1.0))

    def rows_and_columns(names: Sequence[str]) -> tuple[int, int]:
        found = [
            Contender(variant, None, None, {"iou_near_surface": 0.5}, [])  # type: ignore[arg-type]
            for variant in parse_variants(names)
        ]
        axes = draw_contenders(shape, found, Viewpoint(), size=24).axes
        assert len([axis for axis in axes if axis.get_title()]) == 1 + len(names)
        grid = axes[0].get_subplotspec().get_gridspec()
        return grid.nrows, grid.ncols

    assert rows_and_columns(STANDARD) == (4, 6)
    assert rows_and_columns(FIG_3D) == (2, 8)
