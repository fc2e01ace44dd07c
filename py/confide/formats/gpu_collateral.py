"""What a verifier of GPUs needs beside the evidence: reference values and revocation answers.

Nothing in it is trusted: a verifier checks each part up to a root whose key it knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from confide.errors import FormatError
from confide.formats.canonical import Cbor
from confide.formats.fields import Fields
from confide.formats.rim import MAX_RIM
from confide.formats.spdm import NONCE_SIZE

MAX_RIMS = 64
MAX_ANSWERS = 256
MAX_ANSWER = 16384
MAX_RIM_ID = 96


@dataclass(frozen=True)
class OcspAnswer:
    """Map {response, nonce}: a DER OCSP response, and the nonce (32 bytes) that was asked with."""

    response: bytes
    nonce: bytes

    @classmethod
    def read(cls, fields: Fields) -> OcspAnswer:
        """Read the map and close it. Raises FormatError."""
        response = fields.blob("response", max_length=MAX_ANSWER)
        answer = cls(response, fields.blob("nonce", length=NONCE_SIZE))
        fields.done()
        return answer


@dataclass(frozen=True)
class GpuCollateral:
    """Map {rims: {id: XML}, ocsp: [{response, nonce}, ...]}.

    A RIM's id is the one that NVIDIA's service knows it by (see `formats.rim.rim_ids`). There is at
    most one answer for a certificate: where there are more, all of them have to be good.
    """

    rims: Mapping[str, bytes] = field(default_factory=dict)
    ocsp: tuple[OcspAnswer, ...] = ()

    @classmethod
    def read(cls, fields: Fields) -> GpuCollateral:
        """Read the map and close it. Raises FormatError."""
        named = fields.map("rims")
        ids = named.unread()
        if len(ids) > MAX_RIMS or any(len(name) > MAX_RIM_ID for name in ids):
            raise FormatError(
                "bad-gpu-collateral",
                "there are too many reference values, or one has too long an id",
                expected=f"at most {MAX_RIMS}, ids of at most {MAX_RIM_ID} characters",
                seen=f"{len(ids)}",
            )
        rims = {name: named.blob(name, max_length=MAX_RIM) for name in ids}
        items = fields.list("ocsp", max_items=MAX_ANSWERS)
        answers = tuple(OcspAnswer.read(Fields(item, "OCSP answer")) for item in items)
        fields.done()
        return cls(rims, answers)

    def to_cbor(self) -> dict[str, Cbor]:
        """The map."""
        answers: list[Cbor] = [
            {"response": answer.response, "nonce": answer.nonce} for answer in self.ocsp
        ]
        rims: dict[str, Cbor] = dict(self.rims)
        return {"rims": rims, "ocsp": answers}
