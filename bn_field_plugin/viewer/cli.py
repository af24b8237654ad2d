"""`bn-view`: two trained runs side by side in one viewer."""

# No `from __future__ import annotations`: tyro reads the evaluated types of the options.
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro
from nerfstudio.configs.base_config import ViewerConfig

from bn_field_plugin.errors import UserError, exit_on_user_error


@dataclass
class ViewerOptions(ViewerConfig):
    """Options of nerfstudio's viewer, but for the number of rays, which is taken from the run.

    nerfstudio's own class for this is in a module that loads all of nerfstudio, so --help would take ten
    seconds.
    """

    num_rays_per_chunk: tyro.conf.Suppress[int] = -1
    """Rays rendered at a time, which are taken from the run."""


@dataclass
class View:
    """Two trained runs side by side in one viewer: one camera, a split screen, both spectra in the panel.

    Example: bn-view outputs/.../bn-nerf-small/... outputs/.../nerf-small/...
    """

    a: tyro.conf.Positional[Path]
    """The run on the left: its folder or its config.yml."""
    b: tyro.conf.Positional[Path]
    """The run on the right, of the same data."""
    viewer: ViewerOptions = field(default_factory=ViewerOptions)
    """Port, host and other options of nerfstudio's viewer."""

    def main(self) -> None:
        """Load both runs, and show them until Ctrl-C.

        Raises:
            UserError: a run is missing or of another package's method, or the two are of different data.
        """
        paths = [config_of(name, path) for name, path in (("A", self.a), ("B", self.b))]

        # Heavy imports only now, so that --help answers at once.
        from nerfstudio.scripts.viewer.run_viewer import _start_viewer
        from nerfstudio.utils.eval_utils import eval_setup

        loaded = [eval_setup(path, eval_num_rays_per_chunk=None, test_mode="test") for path in paths]
        (config, pipeline, _, step), (other_config, other, _, _) = loaded
        check_comparable(pipeline, other)
        panel: Any = pipeline
        panel.norm_panel.compare(other.norm_panel, names_of(config, other_config))
        rays = config.viewer.num_rays_per_chunk
        config.vis, config.viewer = "viewer", ViewerConfig(**vars(self.viewer) | {"num_rays_per_chunk": rays})
        _start_viewer(config, pipeline, step)


def config_of(name: str, path: Path) -> Path:
    """The config.yml of a run.

    Args:
        name: name of the option that gave the path, for messages.
        path: the config.yml, or its folder.

    Raises:
        UserError: there is no config.yml.
    """
    found = path / "config.yml" if path.is_dir() else path
    if not found.is_file():
        raise UserError(
            f"{name} is {path}: no run there; give the config.yml of a trained run, or its folder"
        )
    return found


def names_of(one: Any, other: Any) -> tuple[str, str]:
    """Short names that tell two runs apart: their methods, their norms, or A and B.

    Args:
        one: nerfstudio's config of the first run.
        other: nerfstudio's config of the second run.
    """
    names: tuple[Callable[[Any], Any], ...] = (
        lambda config: config.method_name,
        lambda config: getattr(config.pipeline.model, "norm", ""),
        lambda config: config.experiment_name,
    )
    for name in names:
        if name(one) != name(other):
            return str(name(one)), str(name(other))
    return "A", "B"


def check_comparable(one: Any, other: Any) -> None:
    """Check that one camera can show two pipelines.

    Args:
        one: the first pipeline.
        other: the second pipeline.

    Raises:
        UserError: one of them is not of this package, or their scenes differ.
    """
    for name, pipeline in (("A", one), ("B", other)):
        if not hasattr(pipeline, "norm_panel"):
            raise UserError(f"{name} is of a method that is not of this package: look at it with ns-viewer")
    first, second = (p.datamanager.train_dataset.cameras.camera_to_worlds.cpu() for p in (one, other))
    if first.shape != second.shape or not bool(first.isclose(second, atol=1e-4).all()):
        raise UserError(
            "A and B see other training cameras, so that one camera cannot show both: train them on the same "
            "data with the same options of the dataparser"
        )


def main() -> None:
    """Run the command."""
    with exit_on_user_error():
        tyro.cli(View).main()


if __name__ == "__main__":
    main()
