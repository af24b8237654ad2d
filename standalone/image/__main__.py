"""`python -m standalone.image`, which is `bn-image`."""

from standalone.image.cli import main

if __name__ == "__main__":
    main()
