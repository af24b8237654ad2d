"""Surfaces of functions of space: values on grids, isosurfaces, mesh files. It works without nerfstudio."""

from bn_field_plugin.geometry.grid import Box, grid_values
from bn_field_plugin.geometry.mesh_encoding import precision_note
from bn_field_plugin.geometry.mesh_files import mesh_format, write_mesh
from bn_field_plugin.geometry.surface import isosurface

__all__ = ["Box", "grid_values", "isosurface", "mesh_format", "precision_note", "write_mesh"]
