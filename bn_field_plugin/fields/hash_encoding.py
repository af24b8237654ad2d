"""Hash grids for fields: this package's own, or tiny-cuda-nn's on CUDA."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from bn_field_plugin.fields.tcnn import Implementation
from bn_field_plugin.nn import Encoding, HashGridEncodingConfig


def hash_encoding(config: HashGridEncodingConfig, implementation: Implementation) -> Encoding:
    """The hash grid of positions in [-1, 1]^3.

    Args:
        config: sizes of the grid.
        implementation: `torch`, this package's own, which uses compiled loops on a CPU; or `tcnn`,
            tiny-cuda-nn's.
    """
    if implementation == "tcnn":
        return TinyCudaHashGrid(config)
    return config.build(3)


def nerfacto_grid(options: dict[str, Any]) -> HashGridEncodingConfig:
    """The hash grid that nerfacto's options describe; options that are absent have nerfstudio's defaults."""
    return HashGridEncodingConfig(
        num_levels=options.get("num_levels", 8),
        features_per_level=options.get("features_per_level", 2),
        base_resolution=options.get("base_res", 16),
        finest_resolution=options.get("max_res", 1024),
        log2_table_size=options.get("log2_hashmap_size", 18),
        init_scale=1e-3,
    )


class TinyCudaHashGrid(Encoding):
    """tiny-cuda-nn's hash grid, which has not run on any GPU yet.

    Its features have half precision; the network that takes them converts them to its own precision.

    Args:
        config: sizes of the grid; the initial features are drawn as tiny-cuda-nn does.
    """

    def __init__(self, config: HashGridEncodingConfig) -> None:
        from nerfstudio.field_components.encodings import HashEncoding

        super().__init__()
        self.in_dim = 3
        self.config = config
        self.out_dim = config.num_levels * config.features_per_level
        self.grid = HashEncoding(
            num_levels=config.num_levels,
            min_res=config.base_resolution,
            max_res=config.finest_resolution,
            log2_hashmap_size=config.log2_table_size,
            features_per_level=config.features_per_level,
            hash_init_scale=config.init_scale,
            implementation="tcnn",
        )

    def forward(self, x: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch f"]:
        """Features of positions in [-1, 1]^3."""
        unit = (x * 0.5 + 0.5).clamp(0.0, 1.0)
        features: Tensor = self.grid(unit.reshape(-1, 3))
        return features.reshape(*x.shape[:-1], self.out_dim)
