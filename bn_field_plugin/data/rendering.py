"""Ray-cast scenes of closed shapes: their lighting, and one picture from one camera.

The light is a sun with a soft edge and a sky dimmed by ambient occlusion, both fixed in the world; only a
faint gloss depends on the viewer. Nothing is random, so a picture is the same on every run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Integer
from numpy import ndarray

from bn_field_plugin.data.shapes import Mesh, Shape
from bn_field_plugin.errors import UserError

Albedo = Callable[[Float[ndarray, "n 3"], Float[ndarray, "n 3"]], Float[ndarray, "n 3"]]
"""Colour (linear) at points of a shape, from positions and normals in its own coordinates."""
Backdrop = Callable[[Float[ndarray, "n 3"]], Float[ndarray, "n 3"]]
"""Light (linear) that comes from infinitely far away, from the directions that one looks in."""

RAYS_AT_ONCE = 1 << 17
"""Number of rays cast at a time: few enough for their arrays to stay in the processor's caches."""


def linear(red: int, green: int, blue: int) -> Float[ndarray, "3"]:
    """An 8-bit sRGB colour as linear light."""
    value = np.array([red, green, blue]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)


def pick(index: ndarray, *colours: Float[ndarray, "3"]) -> Float[ndarray, "n 3"]:
    """For each number of `index`, the colour in that place of `colours`."""
    picked: ndarray = np.stack(colours)[index.astype(np.int64)]
    return picked


def blend(
    weight: Float[ndarray, " n"], low: Float[ndarray, "*#n 3"], high: Float[ndarray, "*#n 3"]
) -> Float[ndarray, "n 3"]:
    """Blend from `low` at weight 0 to `high` at weight 1; each has one colour, or one for each point."""
    blended: ndarray = low + weight[:, None] * (high - low)
    return blended


@dataclass(frozen=True)
class Lighting:
    """The light of a scene.

    Attributes:
        sun: direction to the sun, a vector of any length.
        sun_colour: light (linear) of the sun on a surface that faces it.
        sky_colour: light (linear) of the open sky on a surface that faces up.
        ground_colour: light (linear) of the ground on a surface that faces down.
        occlusion_reach: how far away a surface still dims the sky, in scene units.
        lift: how far above a surface its shadow rays start, in scene units, so that the facets of a round
            mesh do not shade themselves.
        sun_radius: half width of the sun as a tangent: the softness of shadows.
        occlusion_rays: how many directions into the sky are tried at each vertex.
    """

    sun: tuple[float, float, float]
    sun_colour: tuple[float, float, float]
    sky_colour: tuple[float, float, float]
    ground_colour: tuple[float, float, float]
    occlusion_reach: float
    lift: float
    sun_radius: float = 0.05
    occlusion_rays: int = 128


@dataclass(frozen=True)
class SceneObject:
    """A shape with its place and its look.

    Attributes:
        shape: the surface in its own coordinates.
        centre: where the shape's origin stands.
        turn: rotation about z, in degrees.
        tilt: rotation about the shape's own y axis, made before `turn`, in degrees.
        albedo: colour of each point.
        gloss: strength of the highlight, 0 for a matt surface.
    """

    shape: Shape
    centre: tuple[float, float, float]
    albedo: Albedo
    turn: float = 0.0
    tilt: float = 0.0
    gloss: float = 0.0

    @property
    def rotation(self) -> Float[ndarray, "3 3"]:
        """The matrix that turns directions in the shape's coordinates into directions in the world's."""
        angle = np.deg2rad(self.turn)
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        if not self.tilt:
            return turn
        angle = np.deg2rad(self.tilt)
        tilted: ndarray = turn @ [
            [np.cos(angle), 0, np.sin(angle)],
            [0, 1, 0],
            [-np.sin(angle), 0, np.cos(angle)],
        ]
        return tilted

    def mesh(self) -> Mesh:
        """The mesh in the world's coordinates."""
        local = self.shape.mesh()
        return Mesh(local.vertices @ self.rotation.T + np.asarray(self.centre), local.faces)

    def to_local(self, points: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
        """World points in the shape's coordinates."""
        local: ndarray = (points - np.asarray(self.centre, points.dtype)) @ self.rotation.astype(points.dtype)
        return local


def import_open3d() -> ModuleType:
    """Open3D, imported when first needed: it is slow to load.

    Raises:
        UserError: when it is not installed or a system library that it needs is missing.
    """
    try:
        import open3d
    except ImportError as error:
        raise UserError(
            f"rendered scenes need Open3D, which does not load ({error}): run `pip install 'open3d<0.20'`"
        ) from error
    module: ModuleType = open3d
    return module


class Renderer:
    """A scene, ready for casting rays.

    Raises:
        UserError: when Open3D does not load.
    """

    def __init__(
        self, objects: Sequence[SceneObject], lighting: Lighting, backdrop: Backdrop | None = None
    ) -> None:
        """Load Open3D, build the meshes, and measure how open each vertex is to the sky.

        Args:
            objects: everything there is.
            lighting: sun and sky.
            backdrop: what is seen where there is no object; None leaves that transparent.
        """
        self.objects = tuple(objects)
        self._lighting, self._backdrop = lighting, backdrop
        self._open3d = import_open3d()
        self._scene = self._open3d.t.geometry.RaycastingScene()
        self._meshes = [item.mesh() for item in self.objects]
        for mesh in self._meshes:
            self._scene.add_triangles(
                self._tensor(mesh.vertices.astype(np.float32)), self._tensor(mesh.faces.astype(np.uint32))
            )
        self._openness = self._measure_openness()

    def _tensor(self, array: ndarray) -> Any:
        return self._open3d.core.Tensor.from_numpy(np.ascontiguousarray(array))

    def render(
        self,
        camera_to_world: Float[ndarray, "3 4"],
        image_size: int | tuple[int, int],
        camera_angle_x: float,
        samples: int,
    ) -> Float[ndarray, "h w 4"]:
        """One picture, averaged over the area of each pixel.

        Args:
            camera_to_world: camera pose; the camera looks along its -z, y is up.
            image_size: width and height in pixels; one number for a square picture.
            camera_angle_x: horizontal field of view in radians.
            samples: rays per pixel and direction.

        Returns:
            sRGB colours and alpha in [0, 1]. Alpha is straight: the colour is that of the covered part of a
            pixel, not multiplied by alpha. With a backdrop, alpha is 1.
        """
        width, height = (image_size, image_size) if isinstance(image_size, int) else image_size
        image = np.empty((height, width, 4), np.float32)
        rows = max(1, RAYS_AT_ONCE // (width * samples**2))
        for first in range(0, height, rows):
            band = range(first, min(first + rows, height))
            image[band.start : band.stop] = self._render_rows(
                np.asarray(camera_to_world, np.float64), (width, height), band, camera_angle_x, samples
            )
        return image

    def _render_rows(
        self,
        pose: Float[ndarray, "3 4"],
        size: tuple[int, int],
        band: range,
        camera_angle_x: float,
        samples: int,
    ) -> Float[ndarray, "r w 4"]:
        """Some rows of a picture (see `render`)."""
        columns = np.arange(size[0] * samples)
        rows = np.arange(band.start * samples, band.stop * samples)
        slope = np.tan(camera_angle_x / 2)
        x, y = (
            slope * extent / size[0] * ((index + 0.5) / (extent * samples) * 2 - 1)
            for index, extent in ((columns, size[0]), (rows, size[1]))
        )
        across, down = x[None, :, None] * pose[:, 0], y[:, None, None] * pose[:, 1]
        directions = (across - (down + pose[:, 2])).astype(np.float32).reshape(-1, 3)
        directions /= np.sqrt(np.einsum("ij,ij->i", directions, directions))[:, None]
        origin = pose[:, 3].astype(np.float32)
        # The place of a ray in its pixel chooses the point of the sun's disc that lights what the ray hits.
        sun = np.add.outer(rows % samples * samples, columns % samples).reshape(-1)

        covered = np.zeros((len(directions), 4), dtype=np.float32)
        hits = self._scene.cast_rays(
            self._tensor(np.concatenate([np.broadcast_to(origin, directions.shape), directions], 1))
        )
        distance = hits["t_hit"].numpy()
        hit = np.flatnonzero(np.isfinite(distance))
        covered[hit, :3] = self._shade(
            origin + distance[hit, None] * directions[hit],
            directions[hit],
            hits["geometry_ids"].numpy()[hit],
            hits["primitive_ids"].numpy()[hit].astype(np.int64),
            hits["primitive_uvs"].numpy()[hit],
            _sun_points(self._lighting, samples)[sun[hit]],
        )
        covered[hit, 3] = 1
        if self._backdrop is not None:
            missed = np.flatnonzero(~np.isfinite(distance))
            covered[missed, :3] = _srgb(self._backdrop(directions[missed]))
            covered[missed, 3] = 1
        sums = covered.reshape(len(band), samples, size[0], samples, 4).sum(axis=1).sum(axis=2)
        image: ndarray = sums / samples**2
        image[..., :3] /= np.maximum(image[..., 3:], 1e-6)
        return image

    def _shade(
        self,
        points: Float[ndarray, "n 3"],
        directions: Float[ndarray, "n 3"],
        object_ids: Integer[ndarray, " n"],
        face_ids: Int[ndarray, " n"],
        barycentric: Float[ndarray, "n 2"],
        suns: Float[ndarray, "n 3"],
    ) -> Float[ndarray, "n 3"]:
        """SRGB colours of surface points seen along `directions`."""
        lighting = self._lighting
        normals, albedo = np.empty_like(points), np.empty_like(points)
        gloss, openness = np.zeros(len(points), np.float32), np.empty(len(points), np.float32)
        for number in np.flatnonzero(np.bincount(object_ids)):
            item = self.objects[number]
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
        shadow_rays = np.concatenate([points[lit] + lighting.lift * normals[lit], suns[lit]], axis=1)
        lit = lit[~self._scene.test_occlusions(self._tensor(shadow_rays)).numpy()]
        sunlight = np.zeros(len(points), np.float32)
        sunlight[lit] = facing[lit]

        upward = 0.5 + 0.5 * normals[:, 2]
        ground, sky, sun = (
            np.array(colour, np.float32)
            for colour in (lighting.ground_colour, lighting.sky_colour, lighting.sun_colour)
        )
        light = albedo * (sunlight[:, None] * sun + openness[:, None] * blend(upward, ground, sky))
        lit = lit[gloss[lit] > 0]
        halfway = suns[lit] - directions[lit]
        halfway /= np.linalg.norm(halfway, axis=1, keepdims=True)
        light[lit] += (gloss[lit] * np.maximum(np.einsum("ij,ij->i", normals[lit], halfway), 0) ** 40)[
            :, None
        ]
        return _srgb(light)

    def _measure_openness(self) -> list[Float[ndarray, " v"]]:
        """For each vertex of each object, the share of its sky that no other surface nearby covers."""
        rays = self._lighting.occlusion_rays
        index = np.arange(rays)
        height = np.sqrt(1 - (index + 0.5) / rays)  # density of directions in proportion to the cosine
        turn = index * (np.pi * (3 - np.sqrt(5)))
        radius = np.sqrt(1 - height**2)
        dome = np.stack([radius * np.cos(turn), radius * np.sin(turn), height], axis=1)
        result = []
        for item, mesh in zip(self.objects, self._meshes, strict=True):
            normals = item.shape.normal(item.to_local(mesh.vertices)) @ item.rotation.T
            tangent = np.cross(normals, np.where(np.abs(normals[:, 2:]) < 0.9, [[0.0, 0, 1]], [[1.0, 0, 0]]))
            tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
            frame = np.stack([tangent, np.cross(normals, tangent), normals], axis=1)
            directions = np.einsum("rk,vkc->vrc", dome, frame)
            origins = np.broadcast_to(
                (mesh.vertices + self._lighting.lift * normals)[:, None], directions.shape
            )
            rays = np.concatenate([origins, directions], axis=-1).astype(np.float32)
            blocked = self._scene.test_occlusions(
                self._tensor(rays), tfar=self._lighting.occlusion_reach
            ).numpy()
            result.append(1 - blocked.mean(axis=1, dtype=np.float64).astype(np.float32))
        return result


def _srgb(light: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
    """Linear light as sRGB values in [0, 1]."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** np.float32(1 / 2.4) - 0.055)


@cache
def _sun_points(lighting: Lighting, samples: int) -> Float[ndarray, "s 3"]:
    """Directions to points spread evenly over the sun's disc, one for each ray of a pixel."""
    count = samples * samples
    # A stride coprime to the count scatters neighbouring rays over the disc.
    index = np.arange(count) * 5 % count if count % 5 else np.arange(count)
    radius = lighting.sun_radius * np.sqrt((index + 0.5) / count)
    turn = index * (np.pi * (3 - np.sqrt(5)))
    sun = np.array(lighting.sun) / np.linalg.norm(lighting.sun)
    first = np.cross(sun, [0.0, 0, 1] if abs(sun[2]) < 0.99 else [1.0, 0, 0])
    first /= np.linalg.norm(first)
    second = np.cross(sun, first)
    directions = sun + (radius * np.cos(turn))[:, None] * first + (radius * np.sin(turn))[:, None] * second
    rays: ndarray = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)
    return rays
