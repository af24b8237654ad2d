"""`bn-export`: exports that nerfstudio's `ns-export` lacks."""

# No `from __future__ import annotations`: tyro reads the evaluated types of the options.
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from bn_field_plugin.errors import UserError, exit_on_user_error


@dataclass
class MarchingCubes:
    """Mesh of a trained method's density or signed distance, with vertex colours, by marching cubes.

    Example: bn-export marching-cubes --load-config outputs/.../config.yml --output-dir exports
    """

    load_config: Path
    """The config.yml of a trained method with a density: bn-nerf, bn-neus, vanilla-nerf, nerfacto, ..."""
    output_dir: Path
    """Folder for the mesh."""
    filename: str = "density_mesh.ply"
    """Name of the mesh; its ending chooses the format: .ply, .obj, .stl or .glb."""
    resolution: int = 256
    """Grid points along the longest side of the box; memory is 4 bytes times its cube."""
    threshold: float | None = None
    """Density of the surface, in 1 / unit of length: higher gives thinner shapes. By default 10, or where
    the signed distance is zero, if the method has one."""
    box_min: tuple[float, float, float] | None = None
    """Lowest corner of the box to search; the scene's box by default."""
    box_max: tuple[float, float, float] | None = None
    """Highest corner of the box to search; the scene's box by default."""
    save_world_frame: bool = False
    """Put the mesh into the coordinates of the original capture instead of nerfstudio's scaled ones."""

    def main(self) -> None:
        """Load the method, extract its surface and write the mesh.

        Raises:
            UserError: options or files that cannot be used.
        """
        if self.resolution < 2:
            raise UserError(f"--resolution is {self.resolution}: it must be at least 2")
        if not self.load_config.is_file():
            raise UserError(
                f"--load-config {self.load_config}: no such file; give the config.yml of a trained method"
            )

        # Heavy imports only now, so that --help answers at once.
        from bn_field_plugin.geometry import mesh_format, precision_note, write_mesh

        path = self.output_dir / self.filename
        mesh_format(path)  # refuses an unknown ending before nerfstudio is loaded

        import torch
        from nerfstudio.utils.eval_utils import eval_setup
        from nerfstudio.utils.rich_utils import CONSOLE

        from bn_field_plugin.export.marching_cubes import density_field, density_mesh, to_world

        _, pipeline, _, _ = eval_setup(self.load_config, test_mode="inference")
        low, high = pipeline.model.scene_box.aabb.cpu()
        box = (
            low if self.box_min is None else torch.tensor(self.box_min),
            high if self.box_max is None else torch.tensor(self.box_max),
        )
        if not bool((box[0] < box[1]).all()):
            raise UserError("--box-min must lie below --box-max on every axis")
        mesh = density_mesh(
            density_field(pipeline.model), box, self.resolution, self.threshold, pipeline.device
        )
        if self.save_world_frame:
            outputs: Any = pipeline.datamanager.train_dataparser_outputs
            mesh.vertices = to_world(
                mesh.vertices, outputs.dataparser_transform.numpy(), outputs.dataparser_scale
            )
        write_mesh(mesh, path)
        note = precision_note(mesh, mesh_format(path))
        if note is not None:
            CONSOLE.print(note)
        CONSOLE.print(f"{len(mesh.vertices):,} vertices, {len(mesh.faces):,} triangles: {path}")


def main() -> None:
    """Entry point of `bn-export`."""
    with exit_on_user_error():
        tyro.extras.subcommand_cli_from_dict({"marching-cubes": MarchingCubes}, prog="bn-export").main()
