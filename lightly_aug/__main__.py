"""`python -m lightly_aug`, which runs the command line."""

from lightly_aug.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
