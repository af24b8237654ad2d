"""The commands of `bn-image`: options, and what each does with them."""

# No `from __future__ import annotations`: tyro reads the evaluated types of the options.
import dataclasses
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from bn_field_plugin.errors import UserError
from bn_field_plugin.files import write_whole
from standalone.command_line import CONFIG
from standalone.image.codec.coding import PrecisionOptions
from standalone.image.compare import FIG2
from standalone.image.fit import DEFAULT_STEPS, ImageRunOptions
from standalone.image.images import Picture, astronaut, read_picture, shrunk
from standalone.image.task import FULL_BATCH
from standalone.optimization import OptimizationConfig
from standalone.options import NetworkOptions
from standalone.output_files import output_file
from standalone.presets import dump_preset
from standalone.provenance import command_behind
from standalone.report import say
from standalone.results import Source
from standalone.sampling import check_batch_size

ENCODED_SUFFIX = ".bni"
"""Usual ending of encoded images."""

ENCODE_BATCH = 2**14
"""Pixels of a step of `encode`, unless asked otherwise: many small steps come nearest in a given time."""

BEST_NETWORK = "siren"
"""The network that with batch norm fitted pictures best in `benchmarks.bn_network_search`."""

LARGE_WIDTH = 128
"""Units of a layer of that network in `fit`, for pictures of more than `FULL_BATCH` pixels; docs/images.md
has what they gain over 64."""

BUILT_IN = "astronaut"
"""Name of the image that is there without a file."""

OUTPUTS = Path("outputs/image")
"""Folder of results, unless another is given."""


@dataclass
class Fit:
    """Fit an image with a coordinate network.

    The folder gets the reconstruction in the image's own format and depth, an error map, the PSNR curve, the
    error by frequency band over time, all of these as one page to look at and zoom into (page.html), the
    network in half precision (image.bni, for render and decode; only where its norm folds away), a
    checkpoint, the options and metrics.json. PSNR is that of the final network on 8-bit clamped output: norms
    folded with exact statistics, in evaluation mode; not the best noisy step on the way.

    Example: bn-image fit photo.png --steps 500
    """

    image: tyro.conf.Positional[Path | None] = None
    """PNG, JPEG, TIFF or EXR; grey, RGB or RGBA; 8, 16 bit or float. scikit-image's astronaut by default."""
    output_dir: Path | None = None
    """Folder for the results; outputs/image/NAME by default, with a number where that is another image's."""
    config: Path | None = None
    """A preset (coin, bn-3x256, siren-3x256) or a YAML file of options; options given here override it."""
    resume: Path | None = None
    """Folder of a fit that was stopped: go on from its checkpoint, with its options, to the same result."""
    max_side: int | None = None
    """Shrink the image to this longer side first."""
    network: NetworkOptions = field(default_factory=lambda: NetworkOptions(BEST_NETWORK))
    run: ImageRunOptions = field(default_factory=ImageRunOptions)
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)

    def main(self) -> None:
        """Fit and write.

        Raises:
            UserError: an image or options that cannot be used.
            FitInterrupted: Ctrl-C.
        """
        from standalone.image.fit import fit_image
        from standalone.image.outputs import CHECKPOINT, RESULTS, rehearse_writing, write_fit
        from standalone.interrupts import FitInterrupted

        limit = self.run.limit()
        picture = load_picture(self.image, self.max_side)
        self.network = network_for(picture, self.network)
        folder = self.resume or self.output_dir or OUTPUTS / picture_name(self.image)
        if self.resume is not None and not (folder / CHECKPOINT).is_file():
            raise UserError(f"--resume {folder}: there is no {CHECKPOINT}; give the folder of a fit")
        check_options(picture, self.network, self.run, self.optimization)
        folder = RESULTS.begin(
            folder,
            Source.of(self.image, BUILT_IN),
            chosen=bool(self.resume or self.output_dir),
            resume=self.resume is not None,
        )
        write_whole(folder / CONFIG, dump_preset(self.options()))
        try:
            result = fit_image(
                picture,
                self.network,
                self.run,
                self.optimization,
                checkpoint=folder / CHECKPOINT,
                resume=self.resume is not None,
                limit=None if limit is None else limit.reserving(rehearse_writing(picture)),
            )
        except FitInterrupted as stop:
            raise FitInterrupted(
                f"{stop}; go on with: bn-image fit --resume {shlex.quote(str(folder))}"
            ) from None
        metrics = write_fit(folder, picture, result, self.network.variant, self.run)
        bpp = f", {metrics['bpp']:.3f} bits per pixel in half precision" if metrics["bpp"] else ""
        say(
            f"{self.network.variant.label}: {result.psnr:.2f} dB after {result.steps} steps "
            f"({result.seconds:.1f} s){bpp}: {folder}"
        )

    def options(self) -> dict[str, Any]:
        """All options that make the fit what it is, flat."""
        return {
            "image": None if self.image is None else str(self.image.resolve()),
            "max-side": self.max_side,
            **dataclasses.asdict(self.network),
            **dataclasses.asdict(self.run),
            **dataclasses.asdict(self.optimization),
        }


@dataclass
class Compare:
    """Compare networks on one image with the same budget, as in Fig 2 of Cai et al.

    Learning rates that are not given are each network's own. The folder gets the figure (compare.png), a
    page to zoom into all networks' pictures at once (compare.html), the table (Markdown, CSV, JSON), curves
    against steps and against time, and all reconstructions. PSNR as in fit.

    Example: bn-image compare photo.png --variants mlp mlp+batch siren --steps 500
    """

    image: tyro.conf.Positional[Path | None] = None
    """PNG, JPEG, TIFF or EXR; scikit-image's astronaut by default."""
    variants: tuple[str, ...] = FIG2
    """Networks as of `fit --network`, each alone or with +batch, +layer, +global or +cross."""
    siren: bool = False
    """Add SIREN."""
    all: bool = False
    """The field's standard set instead of --variants: mlp, pemlp-5, fourier, siren, finer, wire, gauss, hash,
    and pemlp-5, siren and hash with batch norm; each at the width that has as many parameters as mlp within
    5 %, and at its own learning rates."""
    output_dir: Path | None = None
    """Folder for the results; outputs/image/NAME-compare by default, or with a number as in fit."""
    config: Path | None = None
    """A preset (fig2) or a YAML file of options; options given here override it."""
    resume: bool = False
    """Go on with what an earlier call with the same options has done in the folder."""
    max_side: int | None = 256
    """Shrink the image to this longer side first; None keeps its size."""
    width: int | None = None
    """Units of each hidden layer; by default 28 as in Fig 2, and 64 with --all."""
    depth: int | None = None
    """Number of hidden layers; by default 10 as in Fig 2, and 3 with --all, as the networks' papers have."""
    zoom: tuple[int, int, int] | None = None
    """Part that the figure magnifies: top, left and side in pixels; by default where the detail is."""
    dpi: int = 100
    """Dots per inch of the figure."""
    run: ImageRunOptions = field(default_factory=ImageRunOptions)
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)

    def main(self) -> None:
        """Fit all and write.

        Raises:
            UserError: an image or options that cannot be used.
            FitInterrupted: Ctrl-C.
        """
        from standalone.image.compare import RESULTS, Zoom, compare, write_comparison
        from standalone.interrupts import FitInterrupted
        from standalone.matching import STANDARD, STANDARD_SIZE, contenders
        from standalone.networks import Size, parse_variants

        names = STANDARD if self.all else self.variants
        variants = parse_variants([*names, *(["siren"] if self.siren else [])])
        limit = self.run.limit()
        picture = load_picture(self.image, self.max_side)
        folder = self.output_dir or OUTPUTS / f"{picture_name(self.image)}-compare"
        zoom = None if self.zoom is None else Zoom(*self.zoom)
        if zoom and not (
            zoom.side > 0
            and 0 <= zoom.top <= picture.height - zoom.side
            and 0 <= zoom.left <= picture.width - zoom.side
        ):
            raise UserError(f"--zoom leaves the image of {picture.width} x {picture.height} pixels")
        usual = STANDARD_SIZE if self.all else Size(28, 10)
        size = NetworkOptions(
            width=usual.width if self.width is None else self.width,
            depth=usual.depth if self.depth is None else self.depth,
        )
        check_options(picture, size, self.run, self.optimization)
        networks = contenders(variants, size, 2, picture.channels, equal=self.all)
        folder = RESULTS.begin(
            folder, Source.of(self.image, BUILT_IN), chosen=self.output_dir is not None, resume=self.resume
        )
        try:
            fits = compare(
                picture, networks, self.run, self.optimization, folder, resume=self.resume, limit=limit
            )
        except FitInterrupted as stop:
            raise FitInterrupted(f"{stop}; go on with the same command and --resume") from None
        command = command_behind(f"bn-image compare {picture_name(self.image)}", self, leave_out=("image",))
        write_comparison(folder, picture, fits, self.run, command, zoom, self.dpi)
        say(f"figure and table: {folder}")


@dataclass
class Encode:
    """Encode an image as one small file: fit a network, round its numbers, code them.

    A time limit is that of the fit's steps alone.

    Example: bn-image encode photo.png photo.bni --bpp 0.3
    """

    image: tyro.conf.Positional[Path | None] = None
    """PNG, JPEG, TIFF or EXR; scikit-image's astronaut by default."""
    output: tyro.conf.Positional[Path | None] = None
    """The file; by default the image's name with the ending .bni, in the current folder, with a number where
    that is there."""
    overwrite: bool = False
    """Replace the file where it is there."""
    config: Path | None = None
    """YAML file of options; options given here override it."""
    bpp: float | None = None
    """Bits per pixel that the file may take: sets the network's width and how its numbers are rounded."""
    max_side: int | None = None
    """Shrink the image to this longer side first."""
    network: NetworkOptions = field(default_factory=lambda: NetworkOptions(BEST_NETWORK, width=32, depth=8))
    precision: PrecisionOptions = field(default_factory=PrecisionOptions)
    run: ImageRunOptions = field(default_factory=lambda: ImageRunOptions(batch_size=ENCODE_BATCH))
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)

    def main(self) -> None:
        """Fit, encode, check by decoding, write.

        Raises:
            UserError: an image or options that cannot be used.
            FitInterrupted: Ctrl-C.
        """
        from standalone.image.codec.encoder import encode_picture
        from standalone.image.codec.quantization import check_architecture

        check_architecture(self.network.config(2, 3))
        picture = load_picture(self.image, self.max_side)
        check_options(picture, self.network, self.run, self.optimization)
        self.precision.check()
        path = output_file(self.output, Path(picture_name(self.image) + ENCODED_SUFFIX), self.overwrite)
        file = encode_picture(picture, self.network, self.run, self.optimization, self.precision, self.bpp)
        write_whole(path, file.data)
        if picture.profile is not None:
            say(f"{path} has no colour profile: the image's own is left out")
        say(
            f"{path}: {len(file.data)} bytes, {file.bpp:.4f} bits per pixel, {file.psnr:.2f} dB "
            f"({file.fit_psnr:.2f} dB before rounding, {file.seconds:.1f} s)"
        )


@dataclass
class Decode:
    """Decode an encoded image; the same pixels come out on every machine with IEEE 754 arithmetic.

    Example: bn-image decode photo.bni decoded.png
    """

    encoded: tyro.conf.Positional[Path]
    """A file that `bn-image encode` or `bn-image fit` wrote."""
    output: tyro.conf.Positional[Path | None] = None
    """The image, with an ending that holds its depth; by default the file's name with the usual ending, and
    a number where that is there."""
    overwrite: bool = False
    """Replace the image where it is there."""
    patient: bool = False
    """Decode also what takes more than minutes, as a small file of unknown origin may claim."""

    def main(self) -> None:
        """Decode and write.

        Raises:
            UserError: a file that cannot be decoded, or an ending that cannot hold the image.
        """
        Render(self.encoded, self.output, self.overwrite, self.patient).main()


@dataclass
class Render:
    """Sample an encoded image at any size or crop: larger than the original, or a tile of it.

    Example: bn-image render photo.bni detail.png --crop 100 200 64 64 --scale 8
    """

    encoded: tyro.conf.Positional[Path]
    """A file that `bn-image encode` or `bn-image fit` wrote."""
    output: tyro.conf.Positional[Path | None] = None
    """The image, with an ending that holds its depth; by default the file's name with the usual ending, and
    a number where that is there."""
    overwrite: bool = False
    """Replace the image where it is there."""
    patient: bool = False
    """Sample also what takes more than minutes, as a small file of unknown origin may claim."""
    crop: tuple[float, float, float, float] | None = None
    """Top, left, height and width of the part to sample, in pixels of the original, fractions allowed."""
    scale: float = 1.0
    """Samples for each pixel of the original, along each side."""
    height: int | None = None
    """Rows of the result, instead of --scale."""
    width: int | None = None
    """Columns of the result, instead of --scale."""

    def main(self) -> None:
        """Sample and write.

        Raises:
            UserError: a file that cannot be decoded, or options that do not fit.
        """
        from standalone.image.codec.bitstream import unpack
        from standalone.image.codec.coding import check_work, render
        from standalone.image.coordinates import SampleGrid
        from standalone.image.images import SUFFIXES, check_holds, in_format, write_picture

        try:
            image = unpack(self.encoded.read_bytes())
        except OSError as error:
            raise UserError(
                f"{self.encoded} cannot be read ({error.strerror}): give an encoded image"
            ) from error
        except UserError as error:
            raise UserError(f"{self.encoded} {error}") from error
        usual = SUFFIXES[image.format][0]
        path = output_file(self.output, self.encoded.with_suffix(usual), self.overwrite)
        kind = check_holds(path, image.depth, image.channels)
        if not 0 < self.scale < float("inf"):
            raise UserError(f"--scale is {self.scale}: it must be above 0")
        _, _, height, width = self.crop or (0.0, 0.0, float(image.height), float(image.width))
        for name, value in (("height", self.height), ("width", self.width)):
            if value is not None and value < 1:
                raise UserError(f"--{name} is {value}: it must be at least 1")
        if not all(abs(one) < 2**31 for one in self.crop or ()):
            raise UserError("--crop lies too far away: give pixels of the original")
        rows = self.height or max(1, round(height * self.scale))
        columns = self.width or max(1, round(width * self.scale))
        grid = SampleGrid(image.height, image.width, rows, columns, self.crop)
        if not self.patient:
            try:
                check_work(image, grid)
            except UserError as error:
                raise UserError(f"{self.encoded} {error}") from error
        write_picture(path, in_format(render(image, grid), kind))
        say(f"{path}: {columns} x {rows} pixels")


def check_options(
    picture: Picture, network: NetworkOptions, run: ImageRunOptions, optimization: OptimizationConfig
) -> None:
    """Find mistakes before anything is computed or written.

    Raises:
        UserError: an option that cannot be used.
    """
    run.budget(DEFAULT_STEPS)
    if isinstance(run.batch, int):
        check_batch_size(run.batch)
    run.torch_device()
    optimization.check()
    network.build(2, picture.channels, run.seed)


def network_for(picture: Picture, network: NetworkOptions) -> NetworkOptions:
    """The network of a fit: `BEST_NETWORK` has wider layers for large pictures, unless a width is given."""
    is_large = picture.height * picture.width > FULL_BATCH
    if network.network == BEST_NETWORK and network.width is None and is_large:
        return dataclasses.replace(network, width=LARGE_WIDTH)
    return network


def load_picture(path: Path | None, max_side: int | None) -> Picture:
    """The image that a command is given, shrunk if asked; the astronaut for None. Says what it converts."""
    if path is None:
        return shrunk(astronaut(), max_side)
    picture = read_picture(path, max_side)
    for note in picture.notes:
        say(f"{path} {note}")
    return picture


def picture_name(path: Path | None) -> str:
    """Name for the results of an image."""
    return BUILT_IN if path is None else path.stem
