"""The BN-MLP and what belongs to it: torch only."""

from bn_field_plugin.nn.encodings import (
    Encoding,
    EncodingConfig,
    GaussianEncodingConfig,
    IntegratedEncodingConfig,
    NoEncoding,
    PositionalEncodingConfig,
)
from bn_field_plugin.nn.folding import fold_norm
from bn_field_plugin.nn.gradients import value_and_gradient
from bn_field_plugin.nn.hash_grid import HashGridEncoding, HashGridEncodingConfig
from bn_field_plugin.nn.mlp import CoordinateMLP, CoordinateMLPConfig
from bn_field_plugin.nn.norms import (
    BatchNorm,
    CrossNorm,
    GlobalNorm,
    LayerNorm,
    NormName,
    StatisticsMode,
    build_norm,
)
from bn_field_plugin.nn.statistics import (
    batch_statistics,
    calibrate,
    freeze_statistics,
    frozen_statistics,
    running_norms,
    with_own_statistics,
)

__all__ = [
    "BatchNorm",
    "CoordinateMLP",
    "CoordinateMLPConfig",
    "CrossNorm",
    "Encoding",
    "EncodingConfig",
    "GaussianEncodingConfig",
    "GlobalNorm",
    "HashGridEncoding",
    "HashGridEncodingConfig",
    "IntegratedEncodingConfig",
    "LayerNorm",
    "NoEncoding",
    "NormName",
    "PositionalEncodingConfig",
    "StatisticsMode",
    "batch_statistics",
    "build_norm",
    "calibrate",
    "fold_norm",
    "freeze_statistics",
    "frozen_statistics",
    "running_norms",
    "value_and_gradient",
    "with_own_statistics",
]
