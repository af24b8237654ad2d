"""Where rays start and end: the scene's box instead of two fixed planes."""

from __future__ import annotations

import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.model_components.scene_colliders import NearFarCollider, SceneCollider

from bn_field_plugin.sampling.box import crossing

UNBOUNDED_NEAR, UNBOUNDED_FAR = 0.05, 1000.0
"""Distances from the camera at which the rays of an unbounded scene start and end, in units of the scaled
capture, whose cameras lie within [-1, 1]."""


def scene_collider(scene_box: SceneBox, unbounded: bool, far_plane: float = 6.0) -> SceneCollider:
    """Where the rays of a scene start and end: at two planes, or at the box of a bounded scene.

    Args:
        scene_box: the scene's box.
        unbounded: whether all of space belongs to the scene.
        far_plane: end of the rays that miss the box.
    """
    if unbounded:
        return NearFarCollider(UNBOUNDED_NEAR, UNBOUNDED_FAR, reset_near_plane=False)
    return BoxCollider(scene_box, UNBOUNDED_NEAR, far_plane)


class BoxCollider(SceneCollider):
    """Samples each ray from where it enters the scene's box to where it leaves it.

    Training and evaluation place samples alike, so that both see the same distribution of samples. With
    nerfstudio's near-far collider they would not: its near plane is 0 in evaluation. A ray that misses the
    box keeps the two planes: its samples lie outside the box, where the field's density is zero.

    Args:
        scene_box: the scene's box.
        near_plane: smallest distance of a sample from the camera.
        far_plane: end of the rays that miss the box.
    """

    def __init__(self, scene_box: SceneBox, near_plane: float, far_plane: float) -> None:
        super().__init__()
        self.scene_box = scene_box
        self.near_plane = near_plane
        self.far_plane = far_plane

    def set_nears_and_fars(self, ray_bundle: RayBundle) -> RayBundle:
        """Set `nears` and `fars` of a bundle, in the scene's units of length."""
        nears, fars = crossing(
            ray_bundle.origins, ray_bundle.directions, self.scene_box.aabb.to(ray_bundle.origins)
        )
        nears, fars = nears[..., None].clamp_min(self.near_plane), fars[..., None]
        hit = fars > nears
        ray_bundle.nears = torch.where(hit, nears, self.near_plane)
        ray_bundle.fars = torch.where(hit, fars, self.far_plane)
        return ray_bundle
