"""`python -m standalone.image`, which is `bn-image`."""

from standalone.doors import image

if __name__ == "__main__":
    image()
