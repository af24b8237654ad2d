"""The town square: nothing floats, and it reaches from two metres away to the horizon."""

import numpy as np

from bn_field_plugin.data.capture_objects import LIGHTING, OBJECTS, PLAZA, capture_renderer
from bn_field_plugin.data.capture_scene import CAMERA_ANGLE_X
from bn_field_plugin.data.capture_walk import walk
from bn_field_plugin.data.rendering import import_open3d
from tests.data.surfaces import signed_distance


def _depths(poses, size=(32, 18)):
    """Distance along the rays through the middles of pixels; infinite for the sky."""
    open3d = import_open3d()
    scene = open3d.t.geometry.RaycastingScene()
    for item in OBJECTS:
        mesh = item.mesh()
        scene.add_triangles(
            open3d.core.Tensor(mesh.vertices.astype(np.float32)),
            open3d.core.Tensor(mesh.faces.astype(np.uint32)),
        )
    slope = np.tan(CAMERA_ANGLE_X / 2)
    x, y = (slope * (2 * np.arange(extent) + 1 - extent) / size[0] for extent in size)
    local = np.stack(np.broadcast_arrays(x[None, :], -y[:, None], -1.0), axis=-1).reshape(-1, 3)
    directions = np.einsum("nij,pj->npi", poses[:, :3, :3], local)
    origins = np.broadcast_to(poses[:, None, :3, 3], directions.shape)
    rays = np.concatenate([origins, directions], axis=-1).astype(np.float32)
    lengths = np.linalg.norm(local, axis=1).astype(np.float32)
    return scene.cast_rays(open3d.core.Tensor(rays))["t_hit"].numpy() * lengths, rays


def test_it_is_unbounded_with_things_near_and_far_in_every_direction():
    depths, rays = _depths(walk(50))
    seen = depths[np.isfinite(depths)]
    assert np.quantile(seen, 0.01) < 3
    assert np.quantile(seen, 0.98) > 60  # the hills are this far away
    assert 0.03 < np.mean(~np.isfinite(depths)) < 0.4  # some rays see the sky
    spread = [np.quantile(view[np.isfinite(view)], 0.98) / view.min() for view in depths]
    assert np.median(spread) > 15
    # The depths are those of the shapes' surfaces, which the mesh's facets follow to some error.
    hit = np.isfinite(depths) & (depths < 40)
    unit = rays[..., 3:] / np.linalg.norm(rays[..., 3:], axis=-1, keepdims=True)
    points = (rays[..., :3] + depths[..., None] * unit)[hit]
    assert np.quantile(np.abs(signed_distance(OBJECTS, points[::9])), 0.98) < 0.02


def test_nothing_floats():
    """Each object touches another, or the ground."""
    for number, item in enumerate(OBJECTS):
        others = [*OBJECTS[:number], *OBJECTS[number + 1 :]]
        near = [
            other
            for other in others
            if np.linalg.norm(np.subtract(other.centre, item.centre)[:2]) < 10 or other in OBJECTS[-12:]
        ]
        vertices = item.mesh().vertices
        assert signed_distance(near, vertices[:: max(1, len(vertices) // 500)]).min() < 0.05, item.centre


def test_no_house_stands_on_the_plaza():
    houses = [item for item in OBJECTS if type(item.albedo).__name__ == "House"]
    assert len(houses) == 10
    for house in houses:
        corners = house.mesh().vertices
        assert np.abs(corners[:, :2]).max(axis=1).min() > PLAZA - 0.2


def test_the_sun_throws_shadows_and_the_sky_is_behind():
    up = np.array([[1.0, 0, 0, 3.0], [0, 0, -1, 0], [0, 1, 0, 2.0]])  # looks along +y
    image = capture_renderer().render(up, (32, 18), CAMERA_ANGLE_X, 1)
    assert (image[..., 3] == 1).all()
    # Straight down on the paving beside the fountain, along the sun's azimuth: dark away from it.
    sun = np.array(LIGHTING.sun[:2]) / np.linalg.norm(LIGHTING.sun[:2])
    brightness = []
    for place in (-2.15 * sun, 2.15 * sun):
        down = np.array([[1.0, 0, 0, place[0]], [0, 1, 0, place[1]], [0, 0, 1, 2.0]])
        brightness.append(capture_renderer().render(down, 24, 0.1, 1)[..., :3].mean())
    assert brightness[0] < 0.75 * brightness[1]
