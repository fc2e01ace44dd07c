"""The command line: one module for each command. Libraries know nothing of it."""
