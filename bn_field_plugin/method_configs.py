"""The methods that nerfstudio finds through the entry points `nerfstudio.method_configs`.

Every ns-* command imports this module at its start, so it imports nothing that nerfstudio has not loaded
already.
"""

from __future__ import annotations

from nerfstudio.plugins.types import MethodSpecification

from bn_field_plugin.methods import mipnerf, nerf, nerfacto, neus, ngp
from bn_field_plugin.methods import plenoxel as voxels

bn_nerf = MethodSpecification(
    config=nerf.paper_size(),
    description="NeRF with batch-normalised networks, paper size (8 x 256, coarse and fine); for CUDA.",
)
"""`bn-nerf`"""

bn_nerf_small = MethodSpecification(
    config=nerf.small("bn-nerf-small", "batch", hidden_lr=2e-2, lr=5e-3),
    description="NeRF with batch-normalised networks, small: trains in minutes on a laptop's CPU.",
)
"""`bn-nerf-small`"""

nerf_small = MethodSpecification(
    config=nerf.small("nerf-small", "none", hidden_lr=2e-2, lr=5e-3),
    description="bn-nerf-small without norm, for honest comparisons.",
)
"""`nerf-small`"""

bn_nerfacto = MethodSpecification(
    config=nerfacto.nerfacto(),
    description="nerfacto with batch-normalised networks after its hash grid; for captures, on CUDA.",
)
"""`bn-nerfacto`"""

bn_mipnerf = MethodSpecification(
    config=mipnerf.small(),
    description="mip-NeRF with a batch-normalised network, small: for a CPU; sees cones instead of points.",
)
"""`bn-mipnerf`"""

bn_ngp = MethodSpecification(
    config=ngp.ngp("bn-ngp", "batch", lr=7e-3, betas=(0.9, 0.95)),
    description="Hash grid with batch-normalised networks: sharp in a minute on two CPU cores. Begin here.",
)
"""`bn-ngp`"""

plain_ngp = MethodSpecification(
    config=ngp.ngp("ngp", "none", lr=1e-2, betas=(0.9, 0.99)),
    description="bn-ngp without norm, for honest comparisons.",
)
"""`ngp`"""

bn_neus = MethodSpecification(
    config=neus.neus(),
    description="NeuS with batch-normalised networks, small: surfaces as signed distances, on a CPU too.",
)
"""`bn-neus`"""

siren_nerf = MethodSpecification(
    config=nerf.small("siren-nerf", "none", hidden_lr=1e-3, lr=5e-4, activation="sine"),
    description="nerf-small with sines instead of a positional encoding, for comparisons.",
)
"""`siren-nerf`"""

plenoxel = MethodSpecification(
    config=voxels.plenoxel(),
    description="A voxel grid of density and spherical harmonics without any network, for comparisons.",
)
"""`plenoxel`"""
