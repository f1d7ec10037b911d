"""`python -m expunge` is the `expunge` command."""

from expunge.cli import main

if __name__ == "__main__":
    main()
