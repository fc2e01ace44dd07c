"""CoRIM: reference values in the format that other verifiers read (draft-ietf-rats-corim-11).

`rules` is the format's definition in the terms of `grammar`, `manifest` writes, `values` reads,
`cose` is the signed form. Nothing here signs or verifies: it says exactly which bytes to sign, and
puts a signature in its place.

The only part of this package that needs more than the standard library.
"""

from __future__ import annotations

import importlib.util

from measure.errors import InputError

if importlib.util.find_spec("cbor2") is None:
    raise InputError("a CoRIM needs the Python package cbor2, version 6 or later")
