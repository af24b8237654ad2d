"""Pipelines for the viewer's tests, and checks that looking at them has changed nothing."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor, nn

from bn_field_plugin.engine.pipeline import BNPipeline
from tests.scenes import tiny_pipeline, train_steps


def trained_pipeline(capture: Path, norm: str = "batch", steps: int = 4) -> BNPipeline:
    """A pipeline after some steps, whose statistics lag behind its weights."""
    pipeline = tiny_pipeline(capture, norm=norm, calibration_rays=96)
    train_steps(pipeline, steps, seed=1)
    return pipeline


def state_of(module: nn.Module) -> tuple[dict[str, Tensor], list[bool], list[object]]:
    """The state that training continues from: weights, statistics, and modes of modules and norms."""
    tensors = {name: value.clone() for name, value in module.state_dict().items()}
    modes = [getattr(m, "mode", None) for m in module.modules()]
    return tensors, [m.training for m in module.modules()], modes


def same_state(one: tuple, other: tuple) -> bool:
    """Whether two states are equal, bit for bit."""
    tensors = one[0].keys() == other[0].keys() and all(torch.equal(one[0][k], other[0][k]) for k in one[0])
    return tensors and one[1:] == other[1:]


def generators() -> tuple[object, ...]:
    """States of torch's and Python's random number generators."""
    return torch.get_rng_state().tolist(), random.getstate()


def camera(size: int = 12) -> Cameras:
    """A camera that sees the scene's box from outside."""
    pose = torch.tensor([[[1.0, 0, 0, 0], [0, 0, -1, -4.0], [0, 1, 0, 0]]])
    return Cameras(pose, float(size), float(size), size / 2, size / 2, size, size)
