"""The shape that is fitted where no file is given: a watertight torus with fine relief."""

from __future__ import annotations

import numpy as np
import trimesh

RADIUS, THICKNESS = 1.0, 0.42
"""Radius of the torus and of its tube."""

RELIEF = 0.025
"""Height of the relief; below the tube's radius of curvature, so that the surface never meets itself."""


def knurled_torus(around: int = 720, tube: int = 300) -> trimesh.Trimesh:
    """A torus whose relief turns from knurls to fine rings around it.

    Args:
        around: vertices around the axis.
        tube: vertices around the tube.

    Returns:
        A watertight mesh of genus 1, faces counter-clockwise seen from outside.
    """
    u, v = np.meshgrid(
        np.linspace(0, 2 * np.pi, around, endpoint=False),
        np.linspace(0, 2 * np.pi, tube, endpoint=False),
        indexing="ij",
    )
    knurls = np.sin(24 * u + 6 * v) * np.sin(24 * u - 6 * v)
    rings = np.sin(72 * u)
    turn = 0.5 - 0.5 * np.cos(u)
    tube_radius = THICKNESS + RELIEF * ((1 - turn) * knurls + turn * rings)
    distance = RADIUS + tube_radius * np.cos(v)
    vertices = np.stack([distance * np.cos(u), distance * np.sin(u), tube_radius * np.sin(v)], axis=-1)
    index = np.arange(around * tube).reshape(around, tube)
    a, b = index, np.roll(index, -1, axis=0)
    c, d = np.roll(b, -1, axis=1), np.roll(index, -1, axis=1)
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    return trimesh.Trimesh(vertices.reshape(-1, 3), faces, process=False)
