"""`python -m standalone.ntk`, which is `bn-ntk`."""

from standalone.doors import ntk

if __name__ == "__main__":
    ntk()
