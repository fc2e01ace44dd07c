"""Attestation evidence: one format on every wire, whatever the platform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from confide.encoding.messages import CborMessage
from confide.protocol.gpu import MAX_GPUS, REFUSALS
from measure.kinds import Blob, Definitions, Kind, ListOf, MapOf, Schema, Word, bad_field

PLATFORMS = ("vtpm", "sev-snp", "tdx")
MAX_EVIDENCE = 1 << 20
MAX_ENDORSEMENTS = 8
MAX_CERTIFICATE = 16384
MAX_PCR = 23
PCR_SIZE = 32

_PCRS = {str(number): number for number in range(MAX_PCR + 1)}


@dataclass(frozen=True)
class Evidence(CborMessage, what="the evidence", limit=MAX_EVIDENCE):
    """Evidence of a machine and its GPUs; at most 1 MiB.

    `report` is the platform's own report (for vtpm: an encoded `VtpmReport`), `endorsements` are
    DER certificates, leaf first, `event_log` is the raw firmware log. `gpus` holds one byte string
    per GPU, each an encoded `protocol.gpu.GpuEvidence`. `gpu_refusal` says why a machine that
    should have GPUs attests none, one of `protocol.gpu.REFUSALS`, else "".
    """

    platform: Annotated[str, Word(PLATFORMS)]
    report: Annotated[bytes, Blob()]
    endorsements: Annotated[
        tuple[bytes, ...], ListOf(Blob(max_size=MAX_CERTIFICATE), MAX_ENDORSEMENTS)
    ]
    event_log: Annotated[bytes, Blob()]
    gpus: Annotated[tuple[bytes, ...], ListOf(Blob(max_size=MAX_EVIDENCE), MAX_GPUS)] = ()
    gpu_refusal: Annotated[str, Word(("", *REFUSALS))] = ""


@dataclass(frozen=True)
class PcrNumber(Kind):
    """The number of a register: decimal text, 0 to 23, without leading zeros."""

    def decode(self, value: object, what: str) -> int:
        """An int."""
        number = _PCRS.get(value) if isinstance(value, str) else None
        if number is None:
            raise bad_field(what, f"a PCR number, decimal 0 to {MAX_PCR}", ascii(value)[:80])
        return number

    def encode(self, value: int) -> str:
        """The decimal text."""
        return str(value)

    def schema(self, definitions: Definitions) -> Schema:
        """`string` with the pattern."""
        return {"type": "string", "pattern": "^([0-9]|1[0-9]|2[0-3])$"}


@dataclass(frozen=True)
class VtpmReport(CborMessage, what="the vTPM report", limit=16384):
    """What a vTPM says.

    `quote` is the TPMS_ATTEST and `signature` the TPMT_SIGNATURE, as the TPM marshalled them
    (TPM 2.0 Library, Part 2, sections 10.12.8 and 11.3.4). `pcrs` has the SHA-256 bank's value (32
    bytes) of each quoted register; on the wire the keys are decimal text.
    """

    quote: Annotated[bytes, Blob(max_size=4096)]
    signature: Annotated[bytes, Blob(max_size=4096)]
    pcrs: Annotated[Mapping[int, bytes], MapOf(PcrNumber(), Blob(PCR_SIZE))]
