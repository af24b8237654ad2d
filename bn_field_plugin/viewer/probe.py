"""One look at a network: its spectrum at probe points, and the drift of its statistics."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.fields.base_field import Field
from nerfstudio.fields.sdf_field import SDFField
from torch import Tensor, nn

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import CoordinateMLP, calibrate
from bn_field_plugin.viewer.drift import drifts
from bn_field_plugin.viewer.source import Source
from bn_field_plugin.viewer.twin import twin

PROBE_POINTS = 96
"""Points at which the kernel is taken."""
PROBE_RAYS = 128
"""Training rays on which the probe points lie, and over which drift is measured while training runs.
Statistics of so few rays differ from those of all by some hundredths of a standard deviation, below which
drift cannot fall."""
PATIENT_RAYS = 512
"""Training rays over which drift is measured when nothing trains, so that there is more time."""


@dataclass(frozen=True)
class Look:
    """The results of one look at a network."""

    eigenvalues: Float[np.ndarray, " n"] | None
    """Eigenvalues of the kernel of one field's density, the largest first; None without a kernel."""
    drift: dict[str, float]
    """Drift of each norm (see `norm_drift`), by name, in standard deviations."""
    problem: str = ""
    """Why there is no kernel, in a sentence; empty if there is one, or none was asked for."""


def networks(model: nn.Module) -> dict[str, list[CoordinateMLP]]:
    """The coordinate networks of each field of a model that has some, by the field's name."""
    fields = {name: module for name, module in model.named_modules() if isinstance(module, Field)}
    found = {name: [m for m in f.modules() if isinstance(m, CoordinateMLP)] for name, f in fields.items()}
    return {name: mlps for name, mlps in found.items() if mlps}


def quantity(field: nn.Module) -> str:
    """Name of the quantity that the first output of a field's first network gives: density or distance."""
    return "distance" if isinstance(field, SDFField) else "density"


def look(source: Source, rays: RayBundle, field: str | None) -> Look:
    """Look at the model of a pipeline, without changing it.

    The kernel is that of the density (before its exponential) or of the distance, in the parameters of the
    network that gives it. It is taken at samples along the rays as training draws them, with the running
    statistics held.

    Args:
        source: the pipeline.
        rays: training rays.
        field: name of the field whose kernel is taken, or None for none.
    """
    values, problem, drift = None, "", {}
    if field is not None:
        try:
            values = density_eigenvalues(*density_inputs(source, twin(source.model), rays, field))
        except UserError as error:  # for instance because training has diverged
            problem = str(error)
    exact = twin(source.model).train()
    if calibrate(exact, [rays], lambda batch: source.pass_as_in_training(exact, batch)):
        drift = drifts(source.model, exact)
    return Look(values, drift, problem)


@torch.no_grad()
def density_inputs(
    source: Source, model: Any, rays: RayBundle, field: str
) -> tuple[CoordinateMLP, Float[Tensor, "n d"]]:
    """The network of a field that gives density or distance, and inputs of it, from samples along rays.

    It is the network that the field calls first; density or distance is its first output.

    Args:
        source: the pipeline.
        model: a twin of the pipeline's model; it is left in training mode.
        rays: training rays.
        field: name of the field.

    Raises:
        UserError: fewer than two distinct samples lie in the scene.
    """
    from bn_field_plugin.ntk.recording import distinct_rows, first_inputs

    mlps = {str(index): mlp for index, mlp in enumerate(networks(model)[field])}
    with first_inputs(mlps) as calls:
        source.pass_as_in_training(model.train(), rays)
    if not calls:
        raise UserError(f"training does not call {field}: its kernel is not defined")
    name, inputs = next(iter(calls.items()))
    flat = inputs.reshape(-1, inputs.shape[-1]).float()
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(flat), generator=generator)[: 2 * PROBE_POINTS].to(flat.device)
    some = flat[order]
    points = some[distinct_rows(some, PROBE_POINTS, generator).to(flat.device)]
    if len(points) < 2:
        raise UserError("fewer than two distinct samples of the probe rays lie in the scene")
    return mlps[name], points


def density_eigenvalues(mlp: CoordinateMLP, points: Float[Tensor, "n d"]) -> Float[np.ndarray, " n"]:
    """Eigenvalues of the kernel of a network's first output with running statistics, largest first.

    Raises:
        UserError: the outputs are not finite, or `bn_field_plugin.ntk.spectrum` raises it.
    """
    from bn_field_plugin.ntk import spectrum  # imported here: it takes long, and only viewers need it

    one = first_output(mlp).eval()
    with torch.no_grad():
        if not bool(one(points).isfinite().all()):
            raise UserError("the network's outputs are not finite: training has diverged")
    with torch.enable_grad():
        return spectrum(one, points, statistics="running").values


def first_output(mlp: CoordinateMLP) -> CoordinateMLP:
    """A copy of a network that has only the first of its outputs."""
    one = copy.deepcopy(mlp)
    one.config = dataclasses.replace(mlp.config, out_dim=1)
    one.output.out_features = 1
    one.output.weight = nn.Parameter(mlp.output.weight[:1].detach().clone())
    one.output.bias = nn.Parameter(mlp.output.bias[:1].detach().clone())
    return one
