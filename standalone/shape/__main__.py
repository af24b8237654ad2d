"""`python -m standalone.shape`, which is `bn-shape`."""

from standalone.doors import shape

if __name__ == "__main__":
    shape()
