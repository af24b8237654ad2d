"""Rendering behind an occupancy grid; `test_bn_ngp.py` has the renderer within its model."""

import torch

from bn_field_plugin.fields.hash_radiance_field import HashRadianceField, HashRadianceFieldConfig
from bn_field_plugin.models.occupancy_renderer import OccupancyRenderer
from tests.scenes import BOX, rays


class Ball(HashRadianceField):
    """A red ball of radius 1 and one density, seen the same from everywhere."""

    def __init__(self) -> None:
        super().__init__(
            BOX, HashRadianceFieldConfig(log2_hashmap_size=4, num_levels=1, base_res=2, max_res=2)
        )
        self.grid = torch.nn.Identity()

    def scaled(self, positions: torch.Tensor) -> torch.Tensor:
        return positions

    def density_of(self, encoded: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.where(encoded.norm(dim=-1) < 1, 50.0, 0.0), encoded

    def color_of(self, features: torch.Tensor, harmonics: torch.Tensor) -> torch.Tensor:
        return torch.tensor([1.0, 0.0, 0.0]).expand(len(features), 3)


def ball() -> tuple[HashRadianceField, OccupancyRenderer]:
    torch.manual_seed(0)
    field = Ball()
    renderer = OccupancyRenderer(BOX, 32, 256, 2**12, 0.05)
    for _ in range(20):  # each update looks at one point of a cell
        renderer.update(field, 0)
    return field, renderer


def test_a_ball_is_where_it_is() -> None:
    """Oracle: depth is that of the sphere, and opacity follows from the length of the ray inside."""
    field, renderer = ball()
    assert 0.1 < renderer.grid.share < 0.5
    bundle = rays(200)
    ahead = renderer.rays_of(bundle.origins, bundle.directions)
    seen = renderer.render(field, ahead)
    along = -(bundle.origins * bundle.directions).sum(-1)
    inner = 1 - (bundle.origins.square().sum(-1) - along.square())
    hit = inner > 0.01
    assert hit.sum() > 100
    entry = along - inner.clamp_min(0).sqrt()
    half_light = torch.log(torch.tensor(2.0)) / 50
    # Samples are a step long, and a cell whose corner alone is in the ball may count as empty.
    expected = (entry + half_light)[hit]
    torch.testing.assert_close(seen.depth[hit, 0], expected, rtol=0, atol=1.5 * renderer.step)
    assert (seen.color[hit, 0] > 0.99).all()
    assert (seen.color[:, 1:] == 0).all()


def test_training_and_pictures_agree_on_the_ball() -> None:
    field, renderer = ball()
    bundle = rays(200)
    ahead = renderer.rays_of(bundle.origins, bundle.directions)
    trained = renderer.train_rays(field, ahead)
    shown = renderer.render(field, ahead)
    clear = (shown.accumulation > 0.99) | (shown.accumulation < 0.01)
    difference = (trained.accumulation - shown.accumulation).abs()[clear]
    assert difference.median() < 1e-2


def test_samples_behind_opaque_matter_are_left_out() -> None:
    """A ray has a hundred steps inside the ball, and ends after the few that let light through."""
    field, renderer = ball()
    bundle = rays(50)
    ahead = renderer.rays_of(bundle.origins, bundle.directions)
    renderer.train_rays(field, ahead)
    assert renderer.num_rays > 50
    renderer.samples_per_step = 50 * 20
    renderer.train_rays(field, ahead)
    assert renderer.num_rays >= 50
