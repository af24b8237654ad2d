"""`python -m standalone.sweep`, which is `bn-sweep`."""

from standalone.doors import sweep

if __name__ == "__main__":
    sweep()
