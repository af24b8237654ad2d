"""The box collider: each ray's stretch inside the box, the same in training and in evaluation."""

import dataclasses

import pytest
import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import SceneBox

from bn_field_plugin.models.colliders import BoxCollider
from tests.scenes import rays

LONG_BOX = torch.tensor([[-1.0, -0.5, 0.0], [2.0, 0.5, 0.25]])


def bundle(origins: list[list[float]], directions: list[list[float]]) -> RayBundle:
    unit = torch.nn.functional.normalize(torch.tensor(directions, dtype=torch.float32), dim=-1)
    return dataclasses.replace(
        rays(len(origins)),
        origins=torch.tensor(origins, dtype=torch.float32),
        directions=unit,
        nears=None,
        fars=None,
    )


def collider(near: float = 0.05, far: float = 6.0) -> BoxCollider:
    return BoxCollider(SceneBox(LONG_BOX), near_plane=near, far_plane=far)


def test_training_and_evaluation_sample_the_same_stretch() -> None:
    """nerfstudio's collider moves the near plane to 0 in evaluation, so samples are distributed otherwise."""
    ours = collider()

    def bundle_with_cameras_inside() -> RayBundle:
        found = rays(50)
        found.origins[:25] *= 0.1
        return found

    ours.train()
    trained = ours(bundle_with_cameras_inside())
    ours.eval()
    evaluated = ours(bundle_with_cameras_inside())
    assert torch.equal(trained.nears, evaluated.nears)
    assert torch.equal(trained.fars, evaluated.fars)


def test_the_stretch_is_exactly_the_part_in_the_box() -> None:
    """Oracle: dense points along each ray, from the near plane on."""
    found = collider()(rays(200, seed=3))
    distances = torch.linspace(0.05, 10, 4001)
    where = found.origins[:, None] + found.directions[:, None] * distances[:, None]
    inside = ((where >= LONG_BOX[0]) & (where <= LONG_BOX[1])).all(dim=-1)
    stretch = (distances >= found.nears) & (distances <= found.fars)
    hit = inside.any(dim=1)
    assert 20 < hit.sum() < 200  # the box is flat, so that many rays miss
    edge = (distances - found.nears).abs().minimum((distances - found.fars).abs()) < 1e-4
    assert torch.equal(stretch[hit] | edge[hit], inside[hit] | edge[hit])
    graze = (found.fars - found.nears)[:, 0] < 0.01
    missed = ~hit & ~graze
    assert (found.nears[missed] == 0.05).all()
    assert (found.fars[missed] == 6.0).all()


@pytest.mark.parametrize(
    ("origin", "direction", "stretch"),
    [
        ([-3, 0, 0.1], [1, 0, 0], (2.0, 5.0)),  # along an axis: two directions are zero
        ([0, 0, 3], [0, 0, -1], (2.75, 3.0)),
        ([0, 0, 0.125], [1, 0, 0], (0.05, 2.0)),  # a camera inside
        ([-3, 0, 0.1], [-1, 0, 0], (0.05, 6.0)),  # the box lies behind
        ([-3, 2, 0.1], [1, 0, 0], (0.05, 6.0)),  # passes by
        ([-3, -0.5, 0.1], [1, 0, 0], (2.0, 5.0)),  # runs within a face
        ([1.99, 0, 0.1], [1, 0, 0], (0.05, 6.0)),  # leaves before the near plane
    ],
)
def test_special_rays(origin: list[float], direction: list[float], stretch: tuple[float, float]) -> None:
    found = collider()(bundle([origin], [direction]))
    torch.testing.assert_close(found.nears, torch.tensor([[stretch[0]]]))
    torch.testing.assert_close(found.fars, torch.tensor([[stretch[1]]]))


def test_images_of_rays_keep_their_shape() -> None:
    flat = collider()(rays(12))
    image = collider()(rays(12).reshape((3, 4)))
    assert image.nears is not None
    assert image.nears.shape == image.fars.shape == (3, 4, 1)
    assert torch.equal(image.nears.reshape(12, 1), flat.nears)
    assert torch.equal(image.fars.reshape(12, 1), flat.fars)


def test_planes_that_a_bundle_brings_are_kept() -> None:
    """The viewer's crop and the exports of textures set planes in this way."""
    given = rays(3)
    given.nears, given.fars = torch.zeros(3, 1), torch.ones(3, 1)
    found = collider()(given)
    assert (found.nears == 0).all()
    assert (found.fars == 1).all()
