"""Speed and quality tables, each made by one command: `python -m benchmarks.NAME`."""
