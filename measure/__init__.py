"""Expected measurements of a disk image, computed without booting it.

Standard library only; independent of everything else in this repository, so that an
auditor can read and run it alone: `python -m measure --help`.
"""
