"""What a verifier of SEV-SNP needs beside the evidence: AMD's certificates and revocation list.

Nothing in it is trusted: a verifier checks each part up to a root whose key it knows.
"""

from __future__ import annotations

from dataclasses import dataclass

from confide.formats.canonical import Cbor
from confide.formats.certificates import MAX_DER
from confide.formats.fields import Fields

MAX_CRL = 1 << 18  # bytes; AMD's has a few hundred


@dataclass(frozen=True)
class SnpCollateral:
    """Map {endorsement_key, intermediate, root, crl} of DER bytes; each may be left out (None).

    `endorsement_key` is the VCEK of the chip (or the VLEK) for the report's TCB version,
    `intermediate` the ASK (or ASVK) that issued it, `root` the ARK, `crl` the ARK's revocation
    list. A verifier takes certificates that come with the evidence first.
    """

    endorsement_key: bytes | None = None
    intermediate: bytes | None = None
    root: bytes | None = None
    crl: bytes | None = None

    @classmethod
    def read(cls, fields: Fields) -> SnpCollateral:
        """Read the map and close it. Raises FormatError."""
        collateral = cls(
            endorsement_key=_read_optional(fields, "endorsement_key", MAX_DER),
            intermediate=_read_optional(fields, "intermediate", MAX_DER),
            root=_read_optional(fields, "root", MAX_DER),
            crl=_read_optional(fields, "crl", MAX_CRL),
        )
        fields.done()
        return collateral

    def to_cbor(self) -> dict[str, Cbor]:
        """The map, without what is left out."""
        parts = {
            "endorsement_key": self.endorsement_key,
            "intermediate": self.intermediate,
            "root": self.root,
            "crl": self.crl,
        }
        return {name: value for name, value in parts.items() if value is not None}


def _read_optional(fields: Fields, name: str, limit: int) -> bytes | None:
    return fields.blob(name, max_length=limit) if fields.has(name) else None
