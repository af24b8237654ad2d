"""nerfstudio models built on the fields."""
