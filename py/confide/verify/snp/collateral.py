"""What a verifier of SEV-SNP needs beside the evidence: AMD's certificates and revocation list.

Nothing in it is trusted: a verifier checks each part up to a root whose key it knows.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SnpCollateral:
    """DER bytes; each may be missing (None).

    `endorsement_key` is the VCEK of the chip (or the VLEK) for the report's TCB version,
    `intermediate` the ASK (or ASVK) that issued it, `root` the ARK, `crl` the ARK's revocation
    list. A verifier takes certificates that come with the evidence first.
    """

    endorsement_key: bytes | None = None
    intermediate: bytes | None = None
    root: bytes | None = None
    crl: bytes | None = None
