"""Sweeps of nerfstudio's methods over scenes, options and seeds: `python -m standalone.sweep`."""
