"""The commands of `python -m measure`, one module each.

Every module has `add(commands)`, which registers its parser with `set_defaults(run=...)`; `run`
takes the parsed options and returns the exit status.
"""
