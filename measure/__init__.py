"""Expected measurements of a disk image, computed without booting it.

Standard library, and cbor2 for what is CBOR; independent of everything else in this repository, so
that an auditor can read and run it alone: `python -m measure --help`.
"""
