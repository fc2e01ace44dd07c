"""The command line: one module for each command. Libraries know nothing of it.

A command is a module with `configure(parser)`, which adds its options and sets `run`, a function
from the parsed options to an `ExitStatus`. `cli.COMMANDS` registers it.
"""
