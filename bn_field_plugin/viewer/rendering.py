"""Pictures for the viewer: with running, exact or batch statistics, and of density and drift."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any, Literal

import torch
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.fields.base_field import Field
from nerfstudio.model_components.ray_samplers import Sampler
from torch import Tensor

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import CoordinateMLP, running_norms
from bn_field_plugin.nn.norms import StatisticsMode
from bn_field_plugin.viewer import probe
from bn_field_plugin.viewer.twin import twin

Statistics = Literal["running", "exact", "batch"]
"""Statistics with which a picture is rendered: the model's running ones; exact ones over training rays; or
those of each chunk of rays, which make a pixel depend on its neighbours, as in training."""

OF = " of "
"""Words between the name of an output and that of its model, where there are two models."""
EXTRA_OUTPUTS = ("density", "drift")
"""`density`: log10 of 1 + the largest density on the ray, density in 1 / scene unit. `drift`: mean over the
colours of |rgb with batch statistics - rgb with running statistics|, in [0, 1].
"""

THIN = 3
"""A thin picture takes one of every three samples. Its PSNR against the full picture is then 27 dB for
bn-nerf-small; with one of four it is 23 dB, and edges fray.
"""

Buffers = dict[str, Tensor]
"""Statistics of a model's norms, by name."""


def norm_buffers(model: torch.nn.Module) -> Buffers:
    """Copies of the statistics of all norms of a model."""
    norms = {id(norm) for norm in running_norms(model)}
    return {
        f"{name}.{key}": value.clone()
        for name, module in model.named_modules()
        if id(module) in norms
        for key, value in module.named_buffers(recurse=False)
    }


def render(
    model: Any,
    camera: Any,
    *,
    statistics: Statistics = "running",
    wanted: Set[str] = frozenset(),
    exact: Callable[[], Buffers] | None = None,
    thin: bool = False,
    **options: Any,
) -> dict[str, Tensor]:
    """Render a camera, without changing the model.

    Args:
        model: a model of nerfstudio, in any mode.
        camera: the camera.
        statistics: the statistics to use.
        wanted: which of `EXTRA_OUTPUTS` to compute; the others are zero.
        exact: function that gives exact statistics; called only if they are asked for.
        thin: take a third of the samples along each ray, which needs about a third of the time.
        options: further arguments of `get_outputs_for_camera`.

    Returns:
        The model's outputs, [height, width, c], and `EXTRA_OUTPUTS`, [height, width, 1]: `density` if the
        model has one, `drift` if its norms keep statistics.

    Raises:
        UserError: batch statistics are asked for, and a chunk has only one sample in the scene.
    """

    def outputs_with(statistics: Statistics, density: bool = False) -> dict[str, Tensor]:
        shown = twin(model).eval()
        if thin:
            take_fewer_samples(shown)
        if statistics == "batch":
            for norm in running_norms(shown):
                norm.mode = StatisticsMode.BATCH
        elif statistics == "exact" and exact is not None:
            shown.load_state_dict(exact(), strict=False)
            for mlp in (m for m in shown.modules() if isinstance(m, CoordinateMLP)):
                mlp.inference = None  # it is shared with the model, and holds the model's statistics
        if density:
            _add_density(shown)
        found: dict[str, Tensor] = shown.get_outputs_for_camera(camera, **options)
        return found

    outputs = outputs_with(statistics, density="density" in wanted)
    nothing = torch.zeros_like(outputs["rgb"][..., :1])
    extra = {"density": outputs.pop("density", nothing)} if _density_fields(model) else {}
    if running_norms(model):
        extra["drift"] = nothing
        if "drift" in wanted:
            batch, running = (
                outputs if statistics == name else outputs_with(name) for name in ("batch", "running")
            )
            extra["drift"] = (batch["rgb"] - running["rgb"]).abs().mean(dim=-1, keepdim=True)
    # The extra outputs come second, not last, because nerfstudio takes the last output for its split screen.
    return {"rgb": outputs.pop("rgb"), **extra, **outputs}


def take_fewer_samples(model: torch.nn.Module) -> None:
    """Let the samplers of a twin of a model take one of three samples, for pictures of a moving camera."""
    for sampler in (module for module in model.modules() if isinstance(module, Sampler)):
        for name, value in vars(sampler).items():
            if name.startswith("num_") and "samples" in name:
                if isinstance(value, int):
                    setattr(sampler, name, -(-value // THIN))
                elif isinstance(value, tuple):
                    setattr(sampler, name, tuple(-(-number // THIN) for number in value))


def _density_fields(model: torch.nn.Module) -> list[Any]:
    """Fields of a model that give density."""
    fields = [module for module in model.modules() if isinstance(module, Field)]
    return [field for field in fields if probe.quantity(field) == "density"]


def _add_density(model: Any) -> None:
    """Let a twin of a model output `density`: by itself, or from the samples of the field called last."""
    if hasattr(model, "density_wanted"):
        model.density_wanted = True
        return
    latest: list[Tensor] = []
    for field in _density_fields(model):
        field.forward = _noting(field.forward, latest)
    get_outputs = model.get_outputs

    def with_density(ray_bundle: Any) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = get_outputs(ray_bundle)
        if latest:
            outputs["density"] = torch.log10(1 + latest.pop().amax(dim=-2))
            latest.clear()
        return outputs

    model.get_outputs = with_density


def _noting(forward: Callable[..., Any], latest: list[Tensor]) -> Callable[..., Any]:
    def noting(*arguments: Any, **options: Any) -> Any:
        outputs = forward(*arguments, **options)
        if FieldHeadNames.DENSITY in outputs:
            latest.append(outputs[FieldHeadNames.DENSITY])
        return outputs

    return noting


class ViewedModel:
    """Takes the model's place in nerfstudio's viewer, and renders what the panel asks for.

    The viewer's threads switch this object to evaluation and back, so the model stays in training mode.

    Args:
        model: function that gives the model.
        statistics: function that gives the statistics to render with.
        chosen: function that gives the names of the outputs that are shown.
        exact: function that gives exact statistics.
        tell: function that is told why a picture could not be rendered as asked, or an empty line.
        beside: name and view of another model, for the other half of a split screen; its outputs have the
            name appended to theirs.
    """

    training = False

    def __init__(
        self,
        model: Callable[[], Any],
        statistics: Callable[[], Statistics],
        chosen: Callable[[], Set[str]],
        exact: Callable[[], Buffers],
        tell: Callable[[str], None],
        beside: tuple[str, ViewedModel] | None = None,
    ) -> None:
        self._model, self._statistics, self._chosen = model, statistics, chosen
        self._exact, self._tell, self._beside = exact, tell, beside
        self._blank: dict[str, Tensor] = {}

    @property
    def split_with(self) -> str:
        """The output with which the split screen begins."""
        return "depth" if self._beside is None else f"rgb{OF}{self._beside[0]}"

    @property
    def begins_split(self) -> bool:
        """Whether the split screen is on at first."""
        return self._beside is not None

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        device: torch.device = self._model().device
        return device

    @property
    def rays_together(self) -> int | None:
        """Number of rays to render in one tile, because they share batch statistics; None for any number."""
        if self._statistics() != "batch" and not any("drift" in name for name in self._chosen()):
            return None
        chunk: int = self._model().config.eval_num_rays_per_chunk
        return chunk

    def eval(self) -> None:
        """Do nothing: pictures are always rendered in evaluation mode."""

    def train(self) -> None:
        """Do nothing: pictures are always rendered in evaluation mode."""

    def get_outputs_for_camera(self, camera: Any, **options: Any) -> dict[str, Tensor]:
        """Render a camera; with running statistics if those that are chosen cannot be had."""
        if self._beside is None:
            return self._outputs(camera, self._chosen(), options)
        name, other = self._beside
        chosen, suffix = self._chosen(), f"{OF}{name}"
        theirs = {output.removesuffix(suffix) for output in chosen if output.endswith(suffix)}
        outputs = self._outputs(camera, chosen, options)
        if theirs or not self._blank:
            found = other._outputs(camera, theirs, options)
            self._blank = {output: torch.zeros_like(value[:1, :1]) for output, value in found.items()}
        else:  # the other model is not shown, so zeros stand for its outputs, which can still be chosen
            sides = outputs["rgb"].shape[:2]
            found = {output: value.expand(*sides, -1) for output, value in self._blank.items()}
        return outputs | {f"{output}{suffix}": value for output, value in found.items()}

    def _outputs(self, camera: Any, chosen: Set[str], options: dict[str, Any]) -> dict[str, Tensor]:
        choices = {"wanted": chosen & set(EXTRA_OUTPUTS), "exact": self._exact, **options}
        try:
            outputs = render(self._model(), camera, statistics=self._statistics(), **choices)
            self._tell("")
        except UserError as error:
            self._tell(f"shown with running statistics: {error}")
            outputs = render(self._model(), camera, **{**choices, "wanted": frozenset()})
        return outputs
