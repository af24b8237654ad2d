"""`python -m standalone.shape`, which is `bn-shape`."""

from standalone.shape.cli import main

if __name__ == "__main__":
    main()
