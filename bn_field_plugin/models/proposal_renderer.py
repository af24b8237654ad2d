"""Rendering a capture: every ray has equally many samples, drawn where small networks expect density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.rays import RayBundle, RaySamples
from nerfstudio.model_components.losses import distortion_loss, interlevel_loss
from nerfstudio.model_components.ray_samplers import ProposalNetworkSampler
from nerfstudio.utils import comms
from torch import Tensor, nn

from bn_field_plugin.errors import UserError
from bn_field_plugin.fields.hash_field import BNDensityField
from bn_field_plugin.fields.hash_radiance_field import HashRadianceField
from bn_field_plugin.fields.tcnn import Implementation
from bn_field_plugin.models.rendered import MIN_WEIGHT, Rendered, densest
from bn_field_plugin.nn import NormName
from bn_field_plugin.sampling import PackedSamples, composite, sample_weights
from bn_field_plugin.sampling.compositing import median_depth


@dataclass
class ProposalConfig:
    """How the samples of a capture's rays are found (mip-NeRF 360, nerfacto)."""

    num_samples: tuple[int, ...] = (48,)
    """Samples of each ray for each proposal network; those of the first network are evenly spaced in
    disparity."""
    num_field_samples: int = 24
    """Samples of each ray for the field, drawn in proportion to the weights of the last proposal network."""
    num_levels: int = 5
    """Levels of a proposal network's hash grid."""
    max_res: tuple[int, ...] = (128, 256)
    """Cells along each axis of the hash grid's finest level, for each proposal network."""
    log2_hashmap_size: int = 15
    """Most rows of a level's table, as a power of two."""
    hidden_dim: int = 16
    """Units of the hidden layer of a proposal network."""
    norm: NormName = "none"
    """Norm of the hidden layer of a proposal network."""
    interlevel_loss_mult: float = 1.0
    """Weight of the loss that trains the proposal networks."""
    distortion_loss_mult: float = 0.002
    """Weight of the loss that keeps matter together along a ray."""
    anneal_steps: int = 500
    """Training steps over which the proposal networks' weights come to count in full."""


class ProposalRenderer(nn.Module):
    """Renders rays through all of space.

    Args:
        aabb: corners of the scene's box, which nerfstudio's proposal networks ask for but do not use here.
        config: sizes and losses of the sampling.
        contraction: contraction of space, the one that the field has.
        implementation: implementation of the hash grids.
        samples_per_step: samples of a training step, over all processes.

    Raises:
        UserError: there is no proposal network, or a ray has fewer than two samples.
    """

    def __init__(
        self,
        aabb: Float[Tensor, "2 3"],
        config: ProposalConfig,
        contraction: nn.Module,
        implementation: Implementation,
        samples_per_step: int,
    ) -> None:
        super().__init__()
        if not config.num_samples or min(*config.num_samples, config.num_field_samples, 2**20) < 2:
            raise UserError(
                "--pipeline.model.proposals.num-samples and .num-field-samples must be at least 2, got "
                f"{config.num_samples} and {config.num_field_samples}"
            )
        self.config = config
        self.networks = nn.ModuleList(
            BNDensityField(
                aabb,
                config.norm,
                implementation,
                spatial_distortion=contraction,
                hidden_dim=config.hidden_dim,
                num_levels=config.num_levels,
                max_res=config.max_res[min(index, len(config.max_res) - 1)],
                log2_hashmap_size=config.log2_hashmap_size,
            )
            for index in range(len(config.num_samples))
        )
        self.sampler = ProposalNetworkSampler(
            num_proposal_samples_per_ray=config.num_samples,
            num_nerf_samples_per_ray=config.num_field_samples,
            num_proposal_network_iterations=len(config.num_samples),
            single_jitter=False,
            update_sched=lambda step: min(max(step // 1000, 1), 5),
        )
        rays = samples_per_step // (config.num_field_samples * comms.get_world_size())
        self.num_rays = torch.tensor(max(rays, 8))

    def before_step(self, step: int) -> None:
        """Set how much the proposal networks' weights count, which grows over `anneal_steps` steps."""
        share = min(step / max(self.config.anneal_steps, 1), 1.0)
        slope = 10.0
        self.sampler.set_anneal(float(np.clip(slope * share / ((slope - 1) * share + 1), 0, 1)))
        self.sampler.step_cb(step)

    def render(
        self, field: HashRadianceField, bundle: RayBundle
    ) -> tuple[Rendered, Float[Tensor, "r 3"], dict[str, Tensor]]:
        """Rendered rays, the colours of their last samples, and, in training, the losses of the sampling."""
        found: tuple[RaySamples, list[Tensor], list[RaySamples]] = self.sampler(
            bundle, density_fns=[network.density_fn for network in self.networks]
        )
        ray_samples, weights, proposals = found
        samples = packed(ray_samples)
        density, features = field.density_at(ray_samples.frustums.get_positions().reshape(-1, 3))
        harmonics = field.harmonics(bundle.directions)
        if torch.is_grad_enabled() or self.training:
            color = field.color_of(features, harmonics[samples.ray])
        else:
            color = self._seen_colors(field, density, features, harmonics, samples)
        seen = composite(density, color, samples)
        depth = median_depth(seen.weights.detach(), samples)
        far = samples.middle[samples.first[1:] - 1]
        rendered = Rendered(
            seen.color,
            seen.accumulation[:, None],
            torch.where(depth.isfinite(), depth, far)[:, None],
            densest(density, samples),
        )
        losses = {}
        if self.training and torch.is_grad_enabled():
            final = seen.weights.view(*ray_samples.shape, 1)
            losses = self._losses([*weights, final], [*proposals, ray_samples])
        return rendered, color.view(*ray_samples.shape, 3)[:, -1], losses

    @staticmethod
    def _seen_colors(
        field: HashRadianceField,
        density: Float[Tensor, " n"],
        features: Float[Tensor, "n f"],
        harmonics: Float[Tensor, "r h"],
        samples: PackedSamples,
    ) -> Float[Tensor, "n 3"]:
        """Colours of samples that a picture shows, and of each ray's last one, the background; else zeros."""
        seen = sample_weights(density, samples)[0] >= MIN_WEIGHT
        seen[samples.first[1:] - 1] = True
        color = features.new_zeros(samples.num, 3)
        color[seen] = field.color_of(features[seen], harmonics[samples.ray[seen]])
        return color

    def _losses(self, weights: list[Tensor], samples: list[Any]) -> dict[str, Tensor]:
        config = self.config
        losses = {"interlevel_loss": config.interlevel_loss_mult * interlevel_loss(weights, samples)}
        if config.distortion_loss_mult > 0:
            losses["distortion_loss"] = config.distortion_loss_mult * distortion_loss(weights, samples)
        return losses


def packed(ray_samples: RaySamples) -> PackedSamples:
    """nerfstudio's samples, equally many on each ray, in the packed form: ray after ray."""
    starts, ends = (
        x[..., 0].detach().contiguous() for x in (ray_samples.frustums.starts, ray_samples.frustums.ends)
    )
    rays, each = starts.shape
    index = torch.arange(rays, device=starts.device)
    return PackedSamples(
        index.repeat_interleave(each),
        ((starts + ends) / 2).reshape(-1),
        (ends - starts).reshape(-1),
        torch.arange(0, (rays + 1) * each, each, device=starts.device)[: rays + 1],
    )
