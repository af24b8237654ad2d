"""A fitted shape in one file: the folded network, its frame, and the level of its surface."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import trimesh
from jaxtyping import Bool, Float

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import CoordinateMLP
from bn_field_plugin.nn.activations import OPTIONS
from standalone.checkpoints import load_checkpoint, save_checkpoint
from standalone.networks import Variant
from standalone.shape import inference
from standalone.shape.frames import Frame

FILE_NAME = "shape.pt"
"""Name of the file in a fit's folder."""


@dataclass(frozen=True)
class FittedShape:
    """A shape as a function of space."""

    network: CoordinateMLP
    """The network in evaluation mode; it gives one output at points of the box [-1, 1]^3."""
    variant: Variant
    """Name of `network`; its norm is none if the norm has been folded into the linear layers."""
    trained: Variant
    """Name of the network that was trained, with its norm."""
    level: float
    """Output of the network at the surface; it is larger inside."""
    frame: Frame
    """Map from the shape's own coordinates to the box."""

    def inside(self, points: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
        """Tell which points of the box are inside."""
        return inference.inside(self.network, points, self.level)

    def surface(self, resolution: int) -> trimesh.Trimesh | None:
        """The surface in the box; None where there is none."""
        return inference.surface(self.network, resolution, self.level)

    def mesh(self, resolution: int) -> trimesh.Trimesh:
        """The surface in the shape's own coordinates.

        Raises:
            UserError: the network is inside, or outside, everywhere.
        """
        surface = self.surface(resolution)
        if surface is None:
            raise UserError("the fitted shape has no surface: fit it for more steps (--steps)")
        return self.frame.mesh_from_box(surface)

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        config = self.network.config
        save_checkpoint(
            path,
            {
                "kind": "shape",
                "variant": self.variant.slug,
                "trained": self.trained.slug,
                "width": config.width,
                "depth": config.depth,
                "placement": config.placement,
                "norm_layers": config.norm_layers,
                "norm_eps": config.norm_eps,
                "options": {
                    name: getattr(config, name) for name in OPTIONS if getattr(config, name) is not None
                },
                "level": self.level,
                "frame": asdict(self.frame),
                "network": self.network.state_dict(),
            },
        )

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> FittedShape:
        """Read a fitted shape.

        Args:
            path: the file, or the folder of a fit.
            device: where to put the network.

        Raises:
            UserError: the file is missing, or holds no fitted shape.
        """
        path = path / FILE_NAME if path.is_dir() else path
        saved = load_checkpoint(path, device)
        if saved.get("kind") != "shape":
            raise UserError(f"{path} is no fitted shape: give a folder that `bn-shape fit` wrote")
        variant = Variant.parse(saved["variant"])
        config = variant.config(
            3,
            1,
            saved["width"],
            saved["depth"],
            placement=saved["placement"],
            norm_layers=saved.get("norm_layers", "all"),  # files of early versions have neither
            options=saved.get("options"),
        )
        config = dataclasses.replace(config, norm_eps=saved.get("norm_eps", config.norm_eps))
        network = CoordinateMLP(config).to(device)
        network.load_state_dict(saved["network"])
        trained = Variant.parse(saved.get("trained", saved["variant"]))  # absent in files of early versions
        return cls(network.eval(), variant, trained, saved["level"], Frame(**saved["frame"]))
