"""nerfstudio fields built on the BN-MLP."""
