"""The spectrum of a trained radiance field, at points drawn as its training draws them.

No other module of this folder uses nerfstudio, and functions import it here, so that `bn-ntk` starts fast.
"""

# No `from __future__ import annotations`: tyro reads the evaluated types of the options.
import dataclasses
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from bn_field_plugin.errors import UserError
from bn_field_plugin.lpips import without_lpips
from bn_field_plugin.ntk.kernel import num_statistics
from bn_field_plugin.ntk.module_function import Statistics
from bn_field_plugin.ntk.recording import distinct_rows, first_inputs
from bn_field_plugin.ntk.spectra import spectrum
from bn_field_plugin.ntk.spectrum_statistics import statistics_of
from bn_field_plugin.progress import Tracker, silent
from standalone.ntk.histograms import draw_histogram, note_statistics
from standalone.ntk.spectrum_plots import STYLES, ShownSpectrum, spectrum_plots
from standalone.pages import Table, write_page
from standalone.plots import new_figure, save_figure
from standalone.report import Cell, machine_facts, write_arrays, write_table

Output = Literal["density", "rgb"]


@dataclass(frozen=True)
class CheckpointConfig:
    """The trained run, and the samples at which its kernel is taken."""

    load_config: Path
    """The config.yml of a trained method with a field: bn-nerf, vanilla-nerf, nerfacto, ..."""
    samples: int = 256
    """Samples along training rays at which the kernel is taken."""
    seed: int = 0
    """Seed of rays and samples. It does not reach nerfstudio's parallel loaders, which draw rays in processes
    of their own."""


class SampledField(nn.Module):
    """One output of a field at samples along rays, as a module of its parameters.

    Args:
        field: nerfstudio's field.
        samples: the n samples.
        output: density or colour.
    """

    def __init__(self, field: Any, samples: Any, output: Output) -> None:
        super().__init__()
        self.field, self.samples, self.output = field, samples, output

    field: Any

    def forward(self, positions: Tensor) -> Tensor:
        """The output, [n, 1] or [n, 3]. The samples have their positions: only the dtype of these counts."""
        from nerfstudio.field_components.field_heads import FieldHeadNames

        frustums = self.samples.frustums
        names = ("origins", "directions", "starts", "ends", "pixel_area")
        wide = {name: getattr(frustums, name).to(positions.dtype) for name in names}
        samples = dataclasses.replace(self.samples, frustums=dataclasses.replace(frustums, **wide))
        found: Tensor
        if self.output == "density":
            found = self.field.get_density(samples)[0]
        else:
            found = self.field(samples)[FieldHeadNames.RGB]
        return found.to(positions.dtype)


@dataclass(frozen=True)
class FieldSpectrum:
    """Eigenvalues of one output of one field."""

    field: str
    output: Output
    statistics: str
    values: np.ndarray
    seconds: float


def load(path: Path) -> Any:
    """The pipeline of a trained run.

    Raises:
        UserError: no such file, a method that is not installed, or no checkpoint beside it.
    """
    if not path.is_file():
        raise UserError(f"--load-config {path}: no such file; give the config.yml of a trained method")
    from nerfstudio.utils.eval_utils import eval_setup

    try:
        with _nerfstudio_offline():
            _, pipeline, _, _ = eval_setup(path, test_mode="test")
    except (Exception, SystemExit) as error:  # anything that a config names may raise
        reason = (str(error).splitlines() or [type(error).__name__])[0] or type(error).__name__
        raise UserError(
            f"--load-config {path} cannot be loaded ({type(error).__name__}: {reason}): give the "
            "config.yml of an installed method, with its checkpoint and data in place"
        ) from error
    return pipeline


@contextmanager
def _nerfstudio_offline() -> Iterator[None]:
    """Let runs of nerfstudio's own methods load: without AlexNet for LPIPS, with numpy's numbers."""
    scalar = np.float64(0).__reduce__()[0]  # numpy's versions name its module differently
    allowed: list[Any] = [scalar, np.dtype, type(np.dtype(np.float64)), type(np.dtype(np.float32))]
    with without_lpips(), torch.serialization.safe_globals(allowed):
        yield


def run(config: CheckpointConfig, tracker: Tracker = silent) -> list[FieldSpectrum]:
    """Spectra of every field of the model that training calls.

    Raises:
        UserError: the run cannot be loaded, or its method has no such field.
    """
    if config.samples < 2:
        raise UserError(f"--samples is {config.samples}: it must be at least 2")
    random.seed(config.seed)  # nerfstudio orders the images by this generator
    return spectra_of(training_samples(load(config.load_config), config), tracker)


FieldSamples = Mapping[str, tuple[nn.Module, Any]]
"""Fields by name, each with samples along rays."""


def spectra_of(chosen: FieldSamples, tracker: Tracker = silent) -> list[FieldSpectrum]:
    """Spectra of the density and the colour of fields at samples.

    Norms over the batch take its statistics, coupled and frozen, and then the running ones.
    """
    jobs: list[tuple[str, nn.Module, Tensor, Any, Output, Statistics]] = []
    for name, (field, samples) in chosen.items():
        positions = samples.frustums.get_positions()
        statistics: tuple[Statistics, ...] = (
            ("batch", "frozen", "running") if num_statistics(field) else ("batch",)
        )
        outputs: tuple[Output, ...] = ("density", "rgb")
        jobs += [(name, field, positions, samples, output, s) for output in outputs for s in statistics]
    found = []
    for name, field, positions, samples, output, statistics_name in tracker(jobs, "spectra"):
        module = SampledField(field, samples, output)
        one = spectrum(module, positions, statistics=statistics_name, route="kernel")
        found.append(FieldSpectrum(name, output, statistics_name, one.values, one.seconds))
    return found


def training_samples(pipeline: Any, config: CheckpointConfig) -> dict[str, tuple[nn.Module, Any]]:
    """Fields that a training pass calls, by name, each with some of the samples that it is called with.

    Raises:
        UserError: there is none, or too few samples.
    """
    from nerfstudio.fields.base_field import Field

    model = pipeline.model.train()
    pipeline.datamanager.next_train(0)  # the first call loads images, which takes random numbers
    torch.manual_seed(config.seed)
    rays, _ = pipeline.datamanager.next_train(0)
    fields = {name: module for name, module in model.named_modules() if isinstance(module, Field)}
    with first_inputs(fields) as calls, torch.no_grad():
        model(rays)
    if not calls:
        raise UserError(
            "the method has no field that is called with samples along rays: its kernel is not defined"
        )
    generator = torch.Generator().manual_seed(config.seed)
    chosen: dict[str, tuple[nn.Module, Any]] = {}
    for name, samples in calls.items():
        flat = samples.flatten()
        positions = flat.frustums.get_positions()
        kept = distinct_rows(positions, config.samples, generator)
        if len(kept) < 2:
            raise UserError(f"a training batch has {len(kept)} distinct samples: too few for a spectrum")
        chosen[name] = (fields[name], flat[kept.to(positions.device)])
    return chosen


def write(config: CheckpointConfig, found: list[FieldSpectrum], folder: Path, command: str) -> None:
    """Write `checkpoint.npz`, `.png`, `.html`, and the table `checkpoint` (.md, .json)."""
    arrays = {f"{one.field}_{one.output}_{one.statistics}": one.values for one in found}
    write_arrays(folder / "checkpoint.npz", arrays)
    fields = list(dict.fromkeys((one.field, one.output) for one in found))
    columns = list(dict.fromkeys(one.statistics for one in found))
    figure, panels = new_figure(len(fields), len(columns), (3.4, 2.4))
    for row, key in enumerate(fields):
        for column, statistics in enumerate(columns):
            axes = panels[row, column]
            values = [
                one.values for one in found if (one.field, one.output, one.statistics) == (*key, statistics)
            ]
            if not values:
                axes.set_axis_off()
                continue
            draw_histogram(axes, values, "#4c72b0")
            note_statistics(axes, values)
            axes.set_title(f"{key[0]}, {key[1]}, {statistics}", fontsize=8)
    save_figure(figure, folder / "checkpoint.png")
    rows: list[dict[str, Cell]] = []
    for one in found:
        cells: dict[str, Cell] = {"field": one.field, "output": one.output, "statistics": one.statistics}
        rows.append({**cells, **statistics_of(one.values).as_dict(), "seconds": round(one.seconds, 2)})
    facts = machine_facts() | {"samples": config.samples, "seed": config.seed}
    notes = [
        "Samples are those of a training batch; batch statistics here are those of these samples alone.",
        "Where a field computes an output in fp32, eigenvalues below 1e-7 of the largest are rounding.",
    ]
    title = "Spectra of a trained field"
    write_table("checkpoint", title, command, rows, facts, notes, folder=folder)
    by_output: dict[str, list[ShownSpectrum]] = {}
    for one in found:
        shown = ShownSpectrum(f"{one.statistics} statistics", [one.values], *STYLES[one.statistics])
        by_output.setdefault(f"{one.field}, {one.output}", []).append(shown)
    parts = [*spectrum_plots(by_output), Table("Numbers", rows)]
    write_page(folder / "checkpoint.html", title, parts, command, notes)
