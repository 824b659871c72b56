"""`python -m elbound`, the same as the `elbound` command."""

from elbound.cli import main

if __name__ == "__main__":
    main()
