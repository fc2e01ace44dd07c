"""CoRIM: reference values in the format that other verifiers read (draft-ietf-rats-corim-11).

`rules` is the format's definition in the terms of `grammar`, `manifest` writes, `values` reads,
`cose` is the signed form. Nothing here signs or verifies: it says exactly which bytes to sign, and
puts a signature in its place. Needs cbor2, see `measure.cbor`.
"""
