"""nerfacto (Tancik et al. 2023) with BN-MLPs after its hash grids."""

# No `from __future__ import annotations`: nerfstudio and tyro read the evaluated types of config fields.
import dataclasses
from dataclasses import dataclass, field
from typing import Literal, cast

from jaxtyping import Float
from nerfstudio.fields.nerfacto_field import NerfactoField
from nerfstudio.models.nerfacto import NerfactoModel, NerfactoModelConfig
from nerfstudio.utils import colormaps
from torch import Tensor

from bn_field_plugin.fields.contraction import CubeContraction
from bn_field_plugin.fields.fused import use_fused_inference
from bn_field_plugin.fields.hash_field import BNDensityField, BNNerfactoField
from bn_field_plugin.fields.tcnn import usable_implementation
from bn_field_plugin.lpips import without_lpips
from bn_field_plugin.models.colliders import BoxCollider
from bn_field_plugin.models.image_metrics import EvaluatesImages
from bn_field_plugin.models.scene import CalibratedSceneConfig, ExportsColors
from bn_field_plugin.nn import NormName


@dataclass
class BNNerfactoModelConfig(CalibratedSceneConfig, NerfactoModelConfig):  # type: ignore[misc]
    """nerfacto with a norm in its networks, for captures and for bounded scenes.

    A bounded scene has uniform samples in its box, no camera optimisation and no appearance embedding.
    """

    _target: type = field(default_factory=lambda: BNNerfactoModel)
    norm: NormName = "batch"
    """Norm of the hidden layers for density and colour; none gives nerfacto's networks, in torch."""
    proposal_norm: NormName = "none"
    """Norm of the hidden layers of the proposal networks."""
    implementation: Literal["tcnn", "torch"] = "torch"
    """Implementation of the encodings: torch, or tcnn for tiny-cuda-nn's, which no GPU has run here yet.
    Where tiny-cuda-nn is absent or does not work, torch is used."""
    fused_inference: Literal["auto", "never"] = "never"
    """Auto: evaluate, in the viewer too, the networks that fit (ReLU, no skip connections, at most 127 units)
    by tiny-cuda-nn's fully fused MLP where it is installed and agrees with torch; no GPU has run this yet.
    Never: always by torch."""


class BNNerfactoModel(EvaluatesImages, ExportsColors, NerfactoModel):
    """nerfacto whose networks after the hash grids are BN-MLPs.

    Args:
        config: the model; `scene` must be resolved (the pipeline does it).
    """

    config: BNNerfactoModelConfig

    def populate_modules(self) -> None:
        """Make nerfacto's modules, then put the BN-MLPs and the scene's bounds in their place."""
        self.config = resolved(self.config)
        config = self.config
        with without_lpips():
            super().populate_modules()  # type: ignore[no-untyped-call]  # nerfstudio's has no types
        del self.lpips
        plain: NerfactoField = self.field
        contraction = None if plain.spatial_distortion is None else CubeContraction()
        self.field = BNNerfactoField(
            self.scene_box.aabb,
            self.num_train_data,
            config.norm,
            config.implementation,
            hidden_dim=config.hidden_dim,
            num_levels=config.num_levels,
            max_res=config.max_res,
            base_res=config.base_res,
            features_per_level=config.features_per_level,
            log2_hashmap_size=config.log2_hashmap_size,
            hidden_dim_color=config.hidden_dim_color,
            hidden_dim_transient=config.hidden_dim_transient,
            spatial_distortion=contraction,
            use_pred_normals=config.predict_normals,
            use_average_appearance_embedding=config.use_average_appearance_embedding,
            appearance_embedding_dim=config.appearance_embed_dim if config.use_appearance_embedding else 0,
            average_init_density=config.average_init_density,
        )
        self._replace_proposals(contraction)
        if config.is_bounded:
            box = BoxCollider(self.scene_box, config.near_plane, config.far_plane)
            self.collider = box  # type: ignore[assignment]
        if config.fused_inference == "auto":
            use_fused_inference(self)

    def _replace_proposals(self, contraction: CubeContraction | None) -> None:
        """Replace the proposal networks, and their functions in `density_fns`, which the sampler calls."""
        config = self.config
        nets = config.proposal_net_args_list
        for index in range(len(self.proposal_networks)):
            self.proposal_networks[index] = BNDensityField(
                self.scene_box.aabb,
                config.proposal_norm,
                config.implementation,
                spatial_distortion=contraction,
                average_init_density=config.average_init_density,
                **nets[min(index, len(nets) - 1)],
            )
        networks = [cast(BNDensityField, network) for network in self.proposal_networks]
        if config.use_same_proposal_network:
            networks = networks * config.num_proposal_iterations
        self.density_fns = [network.density_fn for network in networks]

    def pictures(self, outputs: dict[str, Tensor], image: Float[Tensor, "h w 3"]) -> dict[str, Tensor]:
        """The pictures of every model, and the depths that the proposal networks see."""
        pictures = super().pictures(outputs, image)
        for index in range(self.config.num_proposal_iterations):
            name = f"prop_depth_{index}"
            pictures[name] = colormaps.apply_depth_colormap(
                outputs[name], accumulation=outputs["accumulation"]
            )
        return pictures


def resolved(config: BNNerfactoModelConfig) -> BNNerfactoModelConfig:
    """A copy of the config in which all that follows from `scene` is set."""
    background = config.shown_background()
    implementation = usable_implementation(config.implementation)
    config = dataclasses.replace(config, background_color=background, implementation=implementation)
    if not config.is_bounded:
        return config
    return dataclasses.replace(
        config,
        disable_scene_contraction=True,
        proposal_initial_sampler="uniform",
        use_appearance_embedding=False,
        distortion_loss_mult=0.0,
        average_init_density=1.0,
        far_plane=min(config.far_plane, 6.0),
        camera_optimizer=dataclasses.replace(config.camera_optimizer, mode="off"),
    )
