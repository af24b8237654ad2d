"""BN fields: coordinate networks with batch norm, alone (torch only) and as nerfstudio methods.

`from bn_field_plugin import ...` needs torch and works without nerfstudio. The nerfstudio methods live in
`bn_field_plugin.method_configs`, the dataparsers in `bn_field_plugin.dataparser_configs`.
"""

from typing import TYPE_CHECKING, Any

from bn_field_plugin.errors import UserError

if TYPE_CHECKING:
    from bn_field_plugin.nn import (
        CoordinateMLP,
        CoordinateMLPConfig,
        batch_statistics,
        calibrate,
        fold_norm,
        freeze_statistics,
        frozen_statistics,
    )

__version__ = "0.1.0"

__all__ = [
    "CoordinateMLP",
    "CoordinateMLPConfig",
    "UserError",
    "__version__",
    "batch_statistics",
    "calibrate",
    "fold_norm",
    "freeze_statistics",
    "frozen_statistics",
]


def __getattr__(name: str) -> Any:
    """Load the networks, and torch with them, when one is asked for: --help of a command needs none."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from bn_field_plugin import nn

    return getattr(nn, name)
