"""Whether tiny-cuda-nn can be used. It is never required, and no command ends because it does not work."""

from __future__ import annotations

import functools
import importlib
from typing import Any, Literal

import torch

from bn_field_plugin.errors import tell

Implementation = Literal["tcnn", "torch"]

DEVICE_TYPE = "cuda"
"""Kind of device on which tiny-cuda-nn runs."""

LOADING_ERRORS = (ImportError, OSError, RuntimeError, AttributeError, TypeError, ValueError)
"""Errors of a library that was built for another GPU, CUDA or torch. The exceptions by which the viewer
interrupts a picture are not among them."""


@functools.cache
def load_tinycudann() -> Any | None:
    """The module `tinycudann`; None where it is absent, or, after one line on stderr, where it is broken.

    The library counts as broken if a small network cannot be evaluated by it: one that was built for another
    GPU loads, but fails at its first call.
    """
    if DEVICE_TYPE == "cuda" and not torch.cuda.is_available():
        return None
    try:
        library = importlib.import_module("tinycudann")
        probe = library.Network(1, 1, fused_network_config(16, 1))
        with torch.no_grad():
            if not probe(torch.ones(1, 1, device=DEVICE_TYPE)).isfinite().all():
                raise RuntimeError("a small network gives no numbers")
    except LOADING_ERRORS as error:
        if not (isinstance(error, ModuleNotFoundError) and error.name == "tinycudann"):
            tell(
                f"tinycudann cannot be used here, torch takes its place: {first_line(error)} "
                "(build it again with this torch and for this GPU)"
            )
        return None
    return library


def first_line(error: Exception) -> str:
    """The first line of an error's message, without the listings that libraries append."""
    return (str(error) or type(error).__name__).splitlines()[0]


def fused_network_config(width: int, depth: int) -> dict[str, Any]:
    """tiny-cuda-nn's description of its fully fused MLP."""
    return {
        "otype": "FullyFusedMLP",
        "activation": "ReLU",
        "output_activation": "None",
        "n_neurons": width,
        "n_hidden_layers": depth,
    }


def usable_implementation(wanted: Implementation) -> Implementation:
    """`wanted`, or torch where tiny-cuda-nn is absent or broken."""
    return "tcnn" if wanted == "tcnn" and load_tinycudann() is not None else "torch"
