"""nerfstudio fields built on networks with batch norm."""
