"""CoRIM: reference values in the format that other verifiers read (draft-ietf-rats-corim-11).

Only this package needs cbor2; everything else here is the standard library. It signs nothing: it
says exactly which bytes to sign, and puts a signature in its place.
"""
