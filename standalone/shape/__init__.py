"""3D shapes as occupancy fields: from a mesh, scan or volume to a network, and back to a clean mesh."""
