"""`python -m confide`: the `confide` command."""

import sys

from confide.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
