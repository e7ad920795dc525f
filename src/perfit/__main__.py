"""``python -m perfit``: the command line without its script."""

from perfit.cli.main import main

if __name__ == "__main__":
    main()
