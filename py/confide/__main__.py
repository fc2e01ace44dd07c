"""`python -m confide`: the `confide` command."""

import sys

from confide.commands.cli import program

if __name__ == "__main__":
    sys.exit(program())
