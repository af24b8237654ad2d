"""Exports that nerfstudio lacks: the surface of a density field."""
