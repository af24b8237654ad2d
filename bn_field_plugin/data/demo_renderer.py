"""Ray-cast the demo scene: its objects and materials, its lighting, and one picture from one camera.

The light is a sun with a soft edge and a sky dimmed by ambient occlusion, both fixed in the world; only a
faint gloss depends on the viewer. Nothing is random, so a picture is the same on every run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from bn_field_plugin.data.demo_shapes import Mesh, RoundedBox, RoundedCylinder, Shape, Torus
from bn_field_plugin.data.demo_textures import (
    checker,
    look_up,
    nested_checker,
    poster,
    stripes,
    text_bitmap,
    zone_plate,
)
from bn_field_plugin.nn.errors import UserError

Albedo = Callable[[Float[ndarray, "n 3"], Float[ndarray, "n 3"]], Float[ndarray, "n 3"]]
"""Colour (linear) at points of a shape, from positions and normals in its own coordinates."""

SUN = np.array([0.42, -0.50, 0.76]) / np.linalg.norm([0.42, -0.50, 0.76])
SUN_RADIUS = 0.05
"""Half width of the sun as a tangent: the softness of shadows."""
SUN_COLOUR = np.array([0.86, 0.82, 0.75], np.float32)
SKY_COLOUR = np.array([0.46, 0.49, 0.54], np.float32)
GROUND_COLOUR = np.array([0.27, 0.25, 0.24], np.float32)
OCCLUSION_RAYS = 128
OCCLUSION_REACH = 0.8
LIFT = 2e-3
"""How far above a surface its shadow rays start, for the facets of a round mesh not to shade themselves."""


def _linear(red: int, green: int, blue: int) -> Float[ndarray, "3"]:
    """An 8-bit sRGB colour as linear light."""
    value = np.array([red, green, blue]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)


CREAM, SAND, INK = _linear(250, 243, 228), _linear(222, 190, 142), _linear(24, 38, 74)
CORAL, TEAL, GOLD, PLUM = (
    _linear(226, 84, 62),
    _linear(20, 122, 128),
    _linear(244, 180, 52),
    _linear(108, 52, 104),
)


def _pick(index: ndarray, *colours: Float[ndarray, "3"]) -> Float[ndarray, "n 3"]:
    return np.stack(colours)[index.astype(np.int64)]


def _blend(
    weight: Float[ndarray, " n"], low: Float[ndarray, "3"], high: Float[ndarray, "3"]
) -> Float[ndarray, "n 3"]:
    return low + weight[:, None] * (high - low)


# ------------------------------------------------------------------------------------------------ materials

PLINTH_RADIUS, PLINTH_HALF = 1.0, 0.19
RIM_TEXT = text_bitmap("BATCH NORM * SHARP FIELD * ")
_TOP_LEVELS = np.array([[0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1], [3, 0, 0, 0]])


def _plinth(points: Float[ndarray, "n 3"], normals: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
    """Nested checkers inside a dial of ticks on top, lettering between stripes around the side."""
    x, y, z = points.T
    radius, turn = np.hypot(x, y), np.arctan2(y, x) / (2 * np.pi)
    dark, level = nested_checker(x / 0.25 + 0.5, y / 0.25 + 0.5, _TOP_LEVELS)
    dial = np.where(radius > 0.80, stripes(turn * 64, 2) * (radius < 0.92), radius > 0.77)
    top = np.where(radius > 0.77, dial, dark * np.where(level > 0, level, 4))
    lettering = 1 - look_up(RIM_TEXT, (turn - 0.665) % 1, (z + 0.126) / 0.252)
    side = np.where(np.abs(z) > 0.15, 3 * stripes(turn * 64, 2), lettering)
    colour = np.where(normals[:, 2] > 0.5, top, np.where(normals[:, 2] < -0.5, 4, side))
    return _pick(colour, CREAM, INK, TEAL, CORAL, SAND)


_ZONE_AXIS = np.array([0.62, -0.66, 0.42]) / np.linalg.norm([0.62, -0.66, 0.42])


def _zone_sphere(_: Float[ndarray, "n 3"], normals: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
    """A zone plate around each of two poles: rings that get finer towards the equator between them."""
    along = normals @ _ZONE_AXIS.astype(normals.dtype)
    angle = np.arccos(np.clip(np.abs(along), 0, 1))
    rings = zone_plate(angle, 13.0)
    return np.where((along > 0)[:, None], _blend(rings, TEAL, CREAM), _blend(rings, PLUM, CREAM))


RING = 0.25


def _ring(points: Float[ndarray, "n 3"], normals: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
    """Stripes that wind around the tube."""
    around = np.arctan2(points[:, 1], points[:, 0]) / (2 * np.pi)
    tube = np.arctan2(normals[:, 2], np.hypot(points[:, 0], points[:, 1]) - RING) / (2 * np.pi)
    return _pick(stripes(around * 18 + tube * 3, 3), CORAL, CREAM, GOLD)


def _post(points: Float[ndarray, "n 3"], normals: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
    """Fine checkers around, a target on top."""
    x, y, z = points.T
    side = _pick(checker(np.arctan2(y, x) / (2 * np.pi) * 12, z / 0.075), CREAM, INK)
    top = _pick(stripes(np.hypot(x, y) / 0.045, 2), CORAL, CREAM)
    return np.where((normals[:, 2] > 0.7)[:, None], top, side)


CUBE_HALF = 0.29
_POSTERS = (
    (poster(13, ("BN", 3, 1)), GOLD, INK),
    (poster(9, ("s", 0, 1)), CREAM, CORAL),
    (poster(13, ("BN", 3, 1)), GOLD, INK),
    (poster(9, ("m", 0, 1)), CREAM, TEAL),
)
"""Dots, paper and ink of the sides of the cube."""
_DOTS = np.array(
    [
        [0, 1, 1, 0, 2, 0, 2],
        [2, 0, 1, 2, 0, 1, 1],
        [0, 1, 2, 0, 1, 2, 0],
        [1, 2, 0, 1, 0, 0, 2],
        [0, 2, 1, 0, 2, 1, 1],
        [1, 0, 0, 2, 1, 2, 0],
        [2, 1, 1, 0, 2, 0, 1],
    ]
)


def _cube(points: Float[ndarray, "n 3"], normals: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
    """Lettering on the four sides, coloured dots on top."""
    x, y, z = (points / (2 * CUBE_HALF)).T
    cell = np.clip(((np.stack([x, y]) + 0.5) * len(_DOTS)).astype(np.int64), 0, len(_DOTS) - 1)
    colours = _pick(_DOTS[cell[1], cell[0]], CREAM, INK, CORAL)
    across_x = np.abs(normals[:, 0]) > np.abs(normals[:, 1])
    side = np.where(across_x, np.where(normals[:, 0] > 0, 1, 3), np.where(normals[:, 1] > 0, 2, 0))
    side[normals[:, 2] > 0.7] = -1
    for number, (u, (dots, paper, ink)) in enumerate(zip([x, y, -x, -y], _POSTERS, strict=True)):
        here = side == number
        colours[here] = _pick(look_up(dots, u[here] + 0.5, z[here] + 0.5), paper, ink)
    return colours


def _ball(_: Float[ndarray, "n 3"], normals: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
    """Checkers of longitude and latitude."""
    turn = np.arctan2(normals[:, 1], normals[:, 0]) / (2 * np.pi)
    return _pick(checker(turn * 8, np.arcsin(np.clip(normals[:, 2], -1, 1)) / (np.pi / 5) + 0.5), GOLD, PLUM)


# ---------------------------------------------------------------------------------------------- composition

FLOOR = -0.05
"""Height of the plinth's top, on which everything stands."""


@dataclass(frozen=True)
class SceneObject:
    """A shape with its place and its look.

    Attributes:
        shape: the surface in its own coordinates.
        centre: where the shape's origin stands.
        turn: rotation about z, in degrees.
        albedo: colour of each point.
        gloss: strength of the highlight, 0 for a matt surface.
    """

    shape: Shape
    centre: tuple[float, float, float]
    albedo: Albedo
    turn: float = 0.0
    gloss: float = 0.0

    @property
    def rotation(self) -> Float[ndarray, "3 3"]:
        """Turns the shape's coordinates into the world's."""
        angle = np.deg2rad(self.turn)
        return np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])

    def mesh(self) -> Mesh:
        """The mesh in the world's coordinates."""
        local = self.shape.mesh()
        return Mesh(local.vertices @ self.rotation.T + np.asarray(self.centre), local.faces)

    def to_local(self, points: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
        """World points in the shape's coordinates."""
        return (points - np.asarray(self.centre, points.dtype)) @ self.rotation.astype(points.dtype)


OBJECTS = (
    SceneObject(RoundedCylinder(PLINTH_RADIUS, PLINTH_HALF, 0.02), (0, 0, FLOOR - PLINTH_HALF), _plinth),
    SceneObject(RoundedCylinder.sphere(0.40), (-0.40, 0.26, FLOOR + 0.40), _zone_sphere, gloss=0.25),
    SceneObject(RoundedBox((CUBE_HALF,) * 3, 0.02), (0.27, -0.36, FLOOR + CUBE_HALF), _cube, turn=24),
    SceneObject(Torus(RING, 0.08), (0.36, 0.40, FLOOR + 0.08), _ring, gloss=0.15),
    SceneObject(RoundedCylinder(0.14, 0.42, 0.015), (0.36, 0.40, FLOOR + 0.42), _post),
    SceneObject(RoundedCylinder.sphere(0.16), (-0.34, -0.46, FLOOR + 0.16), _ball, turn=15, gloss=0.15),
)


def scene_signed_distance(points: Float[ndarray, "n 3"]) -> Float[ndarray, " n"]:
    """Distance of world points to the scene's surface, negative inside an object."""
    return np.min([item.shape.signed_distance(item.to_local(points)) for item in OBJECTS], axis=0)


# ------------------------------------------------------------------------------------------------ rendering


def import_open3d() -> ModuleType:
    """Open3D, imported when first needed: it is slow to load.

    Raises:
        UserError: when it is not installed or a system library that it needs is missing.
    """
    try:
        import open3d
    except ImportError as error:
        raise UserError(
            f"the demo scene needs Open3D, which does not load ({error}): run `pip install 'open3d<0.20'`"
        ) from error
    return open3d


class DemoRenderer:
    """The scene, ready for casting rays.

    Raises:
        UserError: when Open3D does not load.
    """

    def __init__(self) -> None:
        """Load Open3D, build the meshes, and measure how open each vertex is to the sky."""
        self._open3d = import_open3d()
        self._scene = self._open3d.t.geometry.RaycastingScene()
        self._meshes = [item.mesh() for item in OBJECTS]
        for mesh in self._meshes:
            self._scene.add_triangles(
                self._tensor(mesh.vertices.astype(np.float32)), self._tensor(mesh.faces.astype(np.uint32))
            )
        self._openness = self._measure_openness()

    def _tensor(self, array: ndarray) -> Any:
        return self._open3d.core.Tensor.from_numpy(np.ascontiguousarray(array))

    def render(
        self, camera_to_world: Float[ndarray, "3 4"], image_size: int, camera_angle_x: float, samples: int
    ) -> Float[ndarray, "h w 4"]:
        """One square picture, averaged over the area of each pixel.

        Args:
            camera_to_world: camera pose; the camera looks along its -z, y is up.
            image_size: width and height in pixels.
            camera_angle_x: horizontal field of view in radians.
            samples: rays per pixel and direction.

        Returns:
            sRGB colours and alpha in [0, 1]; straight alpha: the colour of the covered part of a pixel.
        """
        pose = np.asarray(camera_to_world, dtype=np.float64)[:3, :4]
        side = image_size * samples
        step = np.tan(camera_angle_x / 2) * ((np.arange(side) + 0.5) / side * 2 - 1)
        across, down = step[None, :, None] * pose[:, 0], step[:, None, None] * pose[:, 1]
        directions = (across - (down + pose[:, 2])).astype(np.float32).reshape(-1, 3)
        directions /= np.sqrt(np.einsum("ij,ij->i", directions, directions))[:, None]
        origin = pose[:, 3].astype(np.float32)
        # The place of a ray in its pixel chooses the point of the sun that lights it.
        cell = np.arange(side) % samples
        sun = np.add.outer(cell * samples, cell).reshape(-1)

        covered = np.zeros((side * side, 4), dtype=np.float32)
        hits = self._scene.cast_rays(
            self._tensor(np.concatenate([np.broadcast_to(origin, directions.shape), directions], 1))
        )
        hit = np.flatnonzero(np.isfinite(hits["t_hit"].numpy()))
        covered[hit, :3] = self._shade(
            origin + hits["t_hit"].numpy()[hit, None] * directions[hit],
            directions[hit],
            hits["geometry_ids"].numpy()[hit],
            hits["primitive_ids"].numpy()[hit].astype(np.int64),
            hits["primitive_uvs"].numpy()[hit],
            _sun_points(samples)[sun[hit]],
        )
        covered[hit, 3] = 1
        image = (
            covered.reshape(image_size, samples, image_size, samples, 4).sum(axis=1).sum(axis=2) / samples**2
        )
        image[..., :3] /= np.maximum(image[..., 3:], 1e-6)
        return image

    def _shade(
        self,
        points: Float[ndarray, "n 3"],
        directions: Float[ndarray, "n 3"],
        object_ids: Int[ndarray, " n"],
        face_ids: Int[ndarray, " n"],
        barycentric: Float[ndarray, "n 2"],
        suns: Float[ndarray, "n 3"],
    ) -> Float[ndarray, "n 3"]:
        """SRGB colours of surface points seen along `directions`."""
        normals, albedo = np.empty_like(points), np.empty_like(points)
        gloss, openness = np.zeros(len(points), np.float32), np.empty(len(points), np.float32)
        for number, item in enumerate(OBJECTS):
            here = np.flatnonzero(object_ids == number)
            local = item.to_local(points[here])
            local_normals = item.shape.normal(local)
            normals[here] = local_normals @ item.rotation.T.astype(np.float32)
            albedo[here] = item.albedo(local, local_normals)
            gloss[here] = item.gloss
            corners = self._openness[number][self._meshes[number].faces[face_ids[here]]]
            u, v = barycentric[here].T
            openness[here] = corners[:, 0] * (1 - u - v) + corners[:, 1] * u + corners[:, 2] * v

        facing = np.einsum("ij,ij->i", normals, suns)
        lit = np.flatnonzero(facing > 0)
        shadow_rays = np.concatenate([points[lit] + LIFT * normals[lit], suns[lit]], axis=1)
        lit = lit[~self._scene.test_occlusions(self._tensor(shadow_rays)).numpy()]
        sunlight = np.zeros(len(points), np.float32)
        sunlight[lit] = facing[lit]

        upward = (0.5 + 0.5 * normals[:, 2])[:, None]
        sky = openness[:, None] * (GROUND_COLOUR + upward * (SKY_COLOUR - GROUND_COLOUR))
        light = albedo * (sunlight[:, None] * SUN_COLOUR + sky)
        halfway = suns[lit] - directions[lit]
        halfway /= np.linalg.norm(halfway, axis=1, keepdims=True)
        light[lit] += (gloss[lit] * np.maximum(np.einsum("ij,ij->i", normals[lit], halfway), 0) ** 40)[
            :, None
        ]
        light = np.clip(light, 0, 1)
        return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** np.float32(1 / 2.4) - 0.055)

    def _measure_openness(self) -> list[Float[ndarray, " v"]]:
        """For each vertex of each object, the share of its sky that no other surface nearby covers."""
        index = np.arange(OCCLUSION_RAYS)
        height = np.sqrt(1 - (index + 0.5) / OCCLUSION_RAYS)  # weighted by the cosine
        turn = index * (np.pi * (3 - np.sqrt(5)))
        radius = np.sqrt(1 - height**2)
        dome = np.stack([radius * np.cos(turn), radius * np.sin(turn), height], axis=1)
        result = []
        for item, mesh in zip(OBJECTS, self._meshes, strict=True):
            normals = item.shape.normal(item.to_local(mesh.vertices)) @ item.rotation.T
            tangent = np.cross(normals, np.where(np.abs(normals[:, 2:]) < 0.9, [[0.0, 0, 1]], [[1.0, 0, 0]]))
            tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
            frame = np.stack([tangent, np.cross(normals, tangent), normals], axis=1)
            directions = np.einsum("rk,vkc->vrc", dome, frame)
            origins = np.broadcast_to((mesh.vertices + LIFT * normals)[:, None], directions.shape)
            rays = np.concatenate([origins, directions], axis=-1).astype(np.float32)
            blocked = self._scene.test_occlusions(self._tensor(rays), tfar=OCCLUSION_REACH).numpy()
            result.append(1 - blocked.mean(axis=1, dtype=np.float64).astype(np.float32))
        return result


@cache
def shared_renderer() -> DemoRenderer:
    """One renderer for the whole process: building it takes a second.

    Raises:
        UserError: when Open3D does not load.
    """
    return DemoRenderer()


@cache
def _sun_points(samples: int) -> Float[ndarray, "s 3"]:
    """Directions to points spread evenly over the sun's disc, one for each ray of a pixel."""
    count = samples * samples
    # A stride coprime to the count scatters neighbouring rays over the disc.
    index = np.arange(count) * 5 % count if count % 5 else np.arange(count)
    radius, turn = SUN_RADIUS * np.sqrt((index + 0.5) / count), index * (np.pi * (3 - np.sqrt(5)))
    first = np.cross(SUN, [0.0, 0, 1])
    first /= np.linalg.norm(first)
    second = np.cross(SUN, first)
    directions = SUN + (radius * np.cos(turn))[:, None] * first + (radius * np.sin(turn))[:, None] * second
    return (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)
