"""``python -m prefdelta``: what launchers of several processes start."""

from prefdelta.cli import main

if __name__ == "__main__":
    main()
