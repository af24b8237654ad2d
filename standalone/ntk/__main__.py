"""`python -m standalone.ntk`, which is `bn-ntk`."""

from standalone.ntk.cli import main

if __name__ == "__main__":
    main()
