"""What a verifier of GPUs needs beside the evidence: reference values and revocation answers.

Nothing in it is trusted: a verifier checks each part up to a root whose key it knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_ANSWER = 16384


@dataclass(frozen=True)
class OcspAnswer:
    """A DER OCSP response, and the nonce (32 bytes) that was asked with.

    A response of more than `MAX_ANSWER` bytes does not count.
    """

    response: bytes
    nonce: bytes


@dataclass(frozen=True)
class GpuCollateral:
    """RIMs in XML by id, and answers.

    A RIM's id is the one that NVIDIA's service has for it (see `vendors.nvidia.rim.rim_ids`). There
    is at most one answer for a certificate: where there are more, all of them have to be good.
    """

    rims: Mapping[str, bytes] = field(default_factory=dict)
    ocsp: tuple[OcspAnswer, ...] = ()
