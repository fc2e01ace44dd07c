"""Expected measurements of a disk image, computed before it boots.

This package is a library of `confide.verify` and a program of its own: `python -m measure --help`.
It imports nothing of `confide`, so an auditor can read and run it alone. It needs the standard
library, and cbor2 for CBOR.

A machine that is measured runs these modules, which need the standard library only. Each change of
one changes the measurements of every image:

    __init__  declare  errors  eventlog  kinds  reader
"""
