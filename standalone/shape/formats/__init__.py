"""Readers of mesh files: one for each format, with 64-bit coordinates and polygons cut into triangles."""
