"""How the benchmarks run nerfstudio's nerfacto on Blender scenes."""

from __future__ import annotations

NERFACTO_ON_BLENDER = (
    *("--pipeline.model.implementation", "torch", "--pipeline.model.camera-optimizer.mode", "off"),
    *("--pipeline.model.disable-scene-contraction", "True", "--pipeline.model.background-color", "white"),
    *("--pipeline.model.proposal-initial-sampler", "uniform"),
    *("--pipeline.model.near-plane", "2", "--pipeline.model.far-plane", "6"),
    *("--pipeline.model.use-average-appearance-embedding", "False"),
    *("--pipeline.model.distortion-loss-mult", "0", "--pipeline.model.average-init-density", "1.0"),
)
"""The settings nerfstudio's developers give for nerfacto on synthetic scenes (pull request 1507), with the
initial density from before pull request 2834, whose thin fog costs Blender scenes many decibels."""

NERFACTO_RATES = (
    *("--optimizers.fields.optimizer.lr", "3e-2"),
    *("--optimizers.proposal-networks.optimizer.lr", "3e-2"),
)
"""Learning rates at which short runs of nerfacto are better than at its own 1e-2: by 0.67 dB after 250 steps
of 256 rays on lego, with one seed."""
