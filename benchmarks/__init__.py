"""Speed and quality tables, each made by one command: `python -m benchmarks.NAME`."""

from pathlib import Path

RESULTS = Path(__file__).parent / "results"
"""Where tables are kept, in the repository."""
