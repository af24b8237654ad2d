"""Faults while running: killed writers, full disks, forged files. `python -m benchmarks.faults` runs all."""
