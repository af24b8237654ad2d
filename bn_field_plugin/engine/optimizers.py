"""Optimizers for nerfstudio's `optimizers` option: Adam with its betas, and Muon for hidden matrices."""

# No `from __future__ import annotations`: nerfstudio and tyro read the evaluated types of config fields.
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from nerfstudio.engine.optimizers import OptimizerConfig

from bn_field_plugin.nn.muon import Muon


@dataclass
class AdamConfig(OptimizerConfig):
    """Adam, for every parameter."""

    _target: type = torch.optim.Adam
    """The optimizer class to use."""
    lr: float = 1e-3
    """Learning rate."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Shares of the running means of the gradient and of its square that a step keeps."""
    eps: float = 1e-15
    """Added to the root of the gradient's running mean square, by which a step is divided."""
    weight_decay: float = 0.0
    """L2 penalty on the parameters."""
    fused: bool = False
    """Take a step in one kernel, which is several times as fast for large tables."""


@dataclass
class MuonOptimizerConfig(OptimizerConfig):
    """Muon, for the matrices between hidden layers only: the momentum of each is orthogonalised."""

    _target: type = field(default_factory=lambda: Muon)
    """The optimizer class to use."""
    algorithm: Literal["muon", "adam"] = "muon"
    """Muon, or Adam for these matrices too, as Cai et al. train; Adam reads the learning rate and max_norm
    alone of this group's options, and wants smaller rates."""
    lr: float = 1e-3
    """Learning rate; with match_rms_adamw the steps are as large as Adam's at the same rate."""
    momentum: float = 0.95
    """Share of the momentum buffer that a step keeps."""
    nesterov: bool = True
    """Nesterov's momentum: the gradient is taken into account once more after the momentum is updated."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    eps: float = 1e-7
    """Smallest norm by which an update is divided."""
    ns_steps: int = 5
    """Newton-Schulz steps of the orthogonalisation."""
    adjust_lr_fn: Literal["match_rms_adamw", "original"] = "match_rms_adamw"
    """Scale of a step by the matrix's shape: to Adam's root mean square, or as first published."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the orthogonalisation; auto is float32 or better; bfloat16 is untried."""

    def setup(self, params: list[torch.nn.Parameter]) -> Any:
        """The optimizer of these parameters.

        Raises:
            UserError: one of the parameters is not a matrix, and the algorithm is Muon.
        """
        if self.algorithm == "adam":
            return AdamConfig(lr=self.lr).setup(params)
        options = {name: value for name, value in vars(self).items() if name != "algorithm"}
        options.pop("_target")
        options.pop("max_norm")
        return Muon(params, **options)
