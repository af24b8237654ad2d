"""The points of `bn_field_plugin.ntk.points`, for scripts that know them by their place in version 0.1."""

from bn_field_plugin.ntk.points import grid, random_points

__all__ = ["grid", "random_points"]
