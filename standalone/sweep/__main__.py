"""`python -m standalone.sweep`, which is `bn-sweep`."""

from standalone.sweep.cli import main

if __name__ == "__main__":
    main()
