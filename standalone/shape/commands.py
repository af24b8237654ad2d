"""The commands of `bn-shape`: options, and what each does with them."""

# No `from __future__ import annotations`: tyro reads the evaluated types of the options.
import dataclasses
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from bn_field_plugin.errors import UserError
from bn_field_plugin.files import write_whole
from standalone.command_line import CONFIG
from standalone.fitting import Callback, CheckpointOptions, FitState
from standalone.optimization import OptimizationConfig
from standalone.options import RunOptions
from standalone.output_files import output_file
from standalone.presets import dump_preset
from standalone.provenance import command_behind
from standalone.report import say
from standalone.results import Source
from standalone.shape.sampling import SamplingConfig
from standalone.shape.shading import Viewpoint
from standalone.shape.task import (
    LOSSES,
    FitOptions,
    MeasureOptions,
    ShapeNetworkOptions,
    TargetOptions,
    check_resolution,
)
from standalone.shape.volumes import Side

if TYPE_CHECKING:
    from standalone.shape.inputs import ShapeInput

OUTPUTS = Path("outputs/shape")
"""Folder of results, unless another is given."""

LIVE_RESOLUTION, LIVE_STEPS = 96, 100
"""Grid of the surfaces that are shown while a fit runs, and steps between two of them."""


@dataclass(kw_only=True)
class ReadsShape:
    """How the file of a shape is read: options of all commands that take one."""

    repair: bool = False
    """Close holes of a mesh by caps. Without, inside is where its faces go around by more than half."""
    threshold: float | None = None
    """Value at the surface of a volume; by its values if not given, in a line."""
    inside: Side | None = None
    """Which side of the threshold is inside; by its values if not given, in a line."""

    def load(self, path: Path | None, voxels: int | None = None) -> "ShapeInput":
        """Load a shape, as voxels if asked, and print notes on it.

        Args:
            path: its file; None is the built-in one.
            voxels: voxels along the longest side; None leaves the shape as it is.

        Raises:
            UserError: the file cannot be read, or holds nothing with an inside.
        """
        from standalone.shape.inputs import load_shape, voxelized

        shape = load_shape(path, self.repair, self.threshold, self.inside)
        for note in shape.notes:
            say(note)
        return shape if voxels is None else voxelized(shape, voxels)


@dataclass(kw_only=True)
class FitsShape(ReadsShape):
    """How networks are fitted to a shape, and measured: options of the commands that fit."""

    network: ShapeNetworkOptions = field(default_factory=ShapeNetworkOptions)
    target: TargetOptions = field(default_factory=TargetOptions)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    run: RunOptions = field(default_factory=RunOptions)
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)
    measuring: MeasureOptions = field(default_factory=MeasureOptions)

    def fit_options(self) -> FitOptions:
        """The options of a fit.

        Raises:
            UserError: an option that cannot be used.
        """
        options = FitOptions(self.network, self.target, self.sampling, self.run, self.optimization)
        options.check()
        self.measuring.check()
        return options


@dataclass
class Fit(FitsShape):
    """Fit an occupancy field to a shape.

    The folder gets the network (shape.pt, for mesh and view), a mesh of its surface in the shape's own
    coordinates, a picture with error colours, the IoU curve, a checkpoint, the options and metrics.json.
    All are of the final network: norms folded with exact statistics, in evaluation mode.

    Example: bn-shape fit bunny.ply --time-limit 120
    """

    shape: tyro.conf.Positional[Path | None] = None
    """Mesh (OBJ, PLY, STL, OFF, GLB, glTF), closed or open, point cloud with normals (PLY), or volume of
    occupancies or signed distances (.npy, .npz, .mat). A knurled torus by default."""
    output_dir: Path | None = None
    """Folder for the results; outputs/shape/NAME by default, with a number where that is another shape's."""
    config: Path | None = None
    """A preset (preview, wire, fourier_features) or a YAML file of options; options here override it."""
    resume: Path | None = None
    """Folder of a fit that was stopped: go on from its checkpoint, with its options, to the same result."""
    view: bool = False
    """Show the fit in the browser while it runs."""
    port: int = 8080
    """Port of that page."""

    def main(self) -> None:
        """Fit and write.

        Raises:
            UserError: a shape or options that cannot be used.
            FitInterrupted: Ctrl-C.
        """
        from standalone.interrupts import FitInterrupted
        from standalone.shape.contender import contend
        from standalone.shape.outputs import (
            CHECKPOINT,
            PANELS,
            PICTURE_SIDE,
            RESULTS,
            label_of,
            write_fit,
        )
        from standalone.shape.page import ShapePage
        from standalone.shape.rehearsal import rehearse_picture

        options = self.fit_options()
        limit = self.run.limit()
        shape = self.load(self.shape, self.target.voxels)
        folder = self.resume or self.output_dir or OUTPUTS / shape.name
        if self.resume is not None and not (folder / CHECKPOINT).is_file():
            raise UserError(f"--resume {folder}: there is no {CHECKPOINT}; give the folder of a fit")
        source = Source.of(self.shape, shape.name)
        chosen = bool(self.resume or self.output_dir)
        folder = RESULTS.begin(folder, source, chosen=chosen, resume=self.resume is not None)
        write_whole(folder / CONFIG, dump_preset(self.options()))
        page = ShapePage(shape.solid.surface, f"{shape.name}: fit", port=self.port) if self.view else None
        callbacks = []
        if page is not None:
            say(f"watch it at {page.url}")
            callbacks = [Callback(live(page, LOSSES[self.target.loss].level), LIVE_STEPS)]
        checkpoint = CheckpointOptions(
            folder / CHECKPOINT,
            resume=self.resume is not None,
            identity={"shape": shape.name, "input": source.checksum, **options.identity()},
        )
        if limit is not None:
            limit = limit.reserving(rehearse_picture(shape, PANELS, PICTURE_SIDE))
        try:
            result = contend(
                shape, options, self.measuring, checkpoint=checkpoint, callbacks=callbacks, limit=limit
            )
        except FitInterrupted as stop:
            raise FitInterrupted(
                f"{stop}; go on with: bn-shape fit --resume {shlex.quote(str(folder))}"
            ) from None
        metrics = write_fit(folder, shape, result, self.run, Viewpoint())
        line = label_of(result.variant, metrics)
        say(f"{line}: {folder}")
        if page is not None:
            page.show(result.surface, line)
            wait_on(page)

    def options(self) -> dict[str, Any]:
        """All options that make the fit what it is, flat."""
        parts = (
            self.network,
            self.target,
            self.sampling,
            self.run,
            self.optimization,
            self.measuring,
        )
        flat: dict[str, Any] = {
            "shape": None if self.shape is None else str(self.shape.resolve()),
            "repair": self.repair,
            "threshold": self.threshold,
            "inside": self.inside,
        }
        for part in parts:
            flat |= dataclasses.asdict(part)
        return flat


@dataclass
class Compare(FitsShape):
    """Compare networks on one shape with the same budget, as in the 3D panel of Cai et al.

    Learning rates that are not given are each network's own. The folder gets the pictures (compare.png),
    the table (Markdown, CSV, JSON) and the curves against steps and against time.

    Example: bn-shape compare bunny.ply --variants pemlp-5 pemlp-5+batch siren --time-limit 60
    """

    shape: tyro.conf.Positional[Path | None] = None
    """Mesh, point cloud with normals, or volume. A knurled torus by default."""
    variants: tuple[str, ...] = (
        *("mlp", "pemlp-1", "pemlp-5", "mlp+batch", "pemlp-1+batch", "pemlp-5+batch", "siren"),
    )
    """Networks as of `fit --network`, each alone or with +batch, +layer, +global or +cross."""
    all: bool = False
    """The field's standard set instead of --variants: mlp, pemlp-5, fourier, siren, finer, wire, gauss, hash,
    and pemlp-5, siren and hash with batch norm; each at the width that has as many parameters as mlp within
    5 %, and at its own learning rates."""
    output_dir: Path | None = None
    """Folder for the results; outputs/shape/NAME-compare by default, or with a number as in fit."""
    config: Path | None = None
    """YAML file of options; options given here override it."""
    camera: Viewpoint = field(default_factory=Viewpoint)

    def main(self) -> None:
        """Fit all and write.

        Raises:
            UserError: a shape or options that cannot be used.
            FitInterrupted: Ctrl-C.
        """
        from standalone.matching import STANDARD, STANDARD_SIZE, contenders
        from standalone.networks import parse_variants
        from standalone.shape.compare import RESULTS, compare, write_comparison

        options = self.fit_options()
        variants = parse_variants(STANDARD if self.all else self.variants)
        size = self.network
        if self.all and size.width is None and size.depth is None:
            size = dataclasses.replace(size, width=STANDARD_SIZE.width, depth=STANDARD_SIZE.depth)
        networks = contenders(variants, size, 3, 1, equal=self.all)
        limit = self.run.limit()
        shape = self.load(self.shape, self.target.voxels)
        folder = RESULTS.begin(
            self.output_dir or OUTPUTS / f"{shape.name}-compare",
            Source.of(self.shape, shape.name),
            chosen=self.output_dir is not None,
        )
        found = compare(shape, networks, options, self.measuring, limit)
        command = command_behind(f"bn-shape compare {shape.name}", self, leave_out=("shape",))
        write_comparison(folder, shape, found, options, command, self.camera)
        say(f"pictures and table: {folder}")


@dataclass
class Mesh:
    """Write the surface of a fitted shape as a mesh, in the shape's own coordinates and units.

    Example: bn-shape mesh outputs/shape/bunny bunny.glb --resolution 512
    """

    fit: tyro.conf.Positional[Path]
    """Folder of a fit, or its shape.pt."""
    output: tyro.conf.Positional[Path]
    """The mesh: .ply, .obj, .stl or .glb."""
    overwrite: bool = False
    """Replace the file where it is there."""
    resolution: int = 256
    """Grid points along each side of the box."""

    def main(self) -> None:
        """Extract and write.

        Raises:
            UserError: no fitted shape, an unknown ending, or a shape without surface.
        """
        from bn_field_plugin.geometry import mesh_format, precision_note, write_mesh
        from standalone.shape.fitted import FittedShape

        kind = mesh_format(self.output)  # refuses an unknown ending before the work begins
        path = output_file(self.output, self.output, self.overwrite)
        check_resolution(self.resolution)
        mesh = FittedShape.load(self.fit, RunOptions().torch_device()).mesh(self.resolution)
        write_mesh(mesh, path)
        note = precision_note(mesh, kind)
        if note is not None:
            say(note)
        say(f"{path}: {len(mesh.vertices):,} vertices, {len(mesh.faces):,} triangles")


@dataclass
class View(ReadsShape):
    """Show a fitted shape in the browser beside the true one, with error colours.

    Example: bn-shape view outputs/shape/bunny bunny.ply
    """

    fit: tyro.conf.Positional[Path]
    """Folder of a fit, or its shape.pt."""
    shape: tyro.conf.Positional[Path | None] = None
    """The shape that was fitted; the knurled torus by default."""
    resolution: int = 192
    """Grid points along each side of the box."""
    host: str = "127.0.0.1"
    """Address to serve at; 0.0.0.0 lets other machines in."""
    port: int = 8080
    """Port to serve at; another free one is taken where it is in use."""

    def main(self) -> None:
        """Serve until Ctrl-C.

        Raises:
            UserError: no fitted shape, or not fitted to the given one.
        """
        from standalone.shape.fitted import FittedShape
        from standalone.shape.page import ShapePage

        check_resolution(self.resolution)
        fitted = FittedShape.load(self.fit, RunOptions().torch_device())
        shape = self.load(self.shape)
        if not shape.frame.is_near(fitted.frame):
            raise UserError(
                f"{self.shape or shape.name} is not what {self.fit} was fitted to: give that file"
            )
        page = ShapePage(shape.solid.surface, shape.name, self.host, self.port)
        page.show(fitted.surface(self.resolution), fitted.trained.label)
        wait_on(page)


def live(page: Any, level: float) -> Callable[[FitState], Mapping[str, float]]:
    """A callback that shows a fit's surface on a page while it runs."""
    from standalone.shape import inference

    def show(state: FitState) -> Mapping[str, float]:
        surface = inference.surface(state.network.eval(), LIVE_RESOLUTION, level)
        page.show(surface, f"step {state.step}, loss {state.loss:.2e}")
        return {}

    return show


def wait_on(page: Any) -> None:
    """Keep a page open until Ctrl-C."""
    say(f"serving at {page.url}; Ctrl-C ends it")
    try:
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        page.close()
