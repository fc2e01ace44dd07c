"""Attestation evidence: one format on every wire, whatever the platform."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from confide.encoding.canonical import Cbor, cbor_decode, cbor_encode
from confide.encoding.fields import Fields
from confide.errors import FormatError
from confide.protocol.gpu import MAX_GPUS, REFUSALS

PLATFORMS = ("vtpm", "sev-snp", "tdx")
MAX_EVIDENCE = 1 << 20
MAX_ENDORSEMENTS = 8
MAX_CERTIFICATE = 16384
PCR_SIZE = 32


@dataclass(frozen=True)
class Evidence:
    """CBOR map {platform, report, endorsements, event_log, gpus, gpu_refusal}; at most 1 MiB.

    `report` is the platform's own report (for vtpm: an encoded `VtpmReport`), `endorsements` are
    DER certificates, leaf first, `event_log` is the raw firmware log. `gpus` holds one byte string
    per GPU, each an encoded `formats.gpu.GpuEvidence`. `gpu_refusal` is why there is none although
    there should be, one of `formats.gpu.REFUSALS`, else "".
    """

    platform: str
    report: bytes
    endorsements: tuple[bytes, ...]
    event_log: bytes
    gpus: tuple[bytes, ...] = field(default=())
    gpu_refusal: str = ""

    def encode(self) -> bytes:
        """The evidence as deterministic CBOR."""
        return cbor_encode(
            {
                "platform": self.platform,
                "report": self.report,
                "endorsements": list(self.endorsements),
                "event_log": self.event_log,
                "gpus": list(self.gpus),
                "gpu_refusal": self.gpu_refusal,
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Evidence:
        """Raises FormatError for anything but exactly this map."""
        fields = Fields(cbor_decode(data, what="evidence", limit=MAX_EVIDENCE), "evidence")
        evidence = cls(
            platform=fields.text("platform", one_of=PLATFORMS),
            report=fields.blob("report"),
            endorsements=_blobs(fields, "endorsements", MAX_ENDORSEMENTS, MAX_CERTIFICATE),
            event_log=fields.blob("event_log"),
            gpus=_blobs(fields, "gpus", MAX_GPUS, MAX_EVIDENCE),
            gpu_refusal=fields.text("gpu_refusal", one_of=("", *REFUSALS)),
        )
        fields.done()
        return evidence


@dataclass(frozen=True)
class VtpmReport:
    """CBOR map {quote, signature, pcrs}: what a vTPM says.

    `quote` is the TPMS_ATTEST and `signature` the TPMT_SIGNATURE, as the TPM marshalled them
    (TPM 2.0 Library, Part 2, sections 10.12.8 and 11.3.4). `pcrs` has the SHA-256 bank's value (32
    bytes) of each quoted register; on the wire the keys are decimal text.
    """

    quote: bytes
    signature: bytes
    pcrs: Mapping[int, bytes]

    def encode(self) -> bytes:
        """The report as deterministic CBOR."""
        pcrs: dict[str, Cbor] = {str(index): value for index, value in self.pcrs.items()}
        return cbor_encode({"quote": self.quote, "signature": self.signature, "pcrs": pcrs})

    @classmethod
    def parse(cls, data: bytes) -> VtpmReport:
        """Raises FormatError for anything but exactly this map."""
        fields = Fields(cbor_decode(data, what="vTPM report", limit=16384), "vTPM report")
        quote = fields.blob("quote", max_length=4096)
        signature = fields.blob("signature", max_length=4096)
        pcrs = read_pcrs(fields.map("pcrs"), lambda reader, key: reader.blob(key, length=PCR_SIZE))
        fields.done()
        return cls(quote, signature, pcrs)


def read_pcrs(fields: Fields, read: Callable[[Fields, str], bytes]) -> dict[int, bytes]:
    """Read a map from register number (decimal text, 0 to 23) to value, and close it."""
    pcrs = {}
    for key in fields.unread():
        if not (key.isascii() and key.isdecimal()) or str(int(key)) != key or int(key) > 23:
            raise FormatError(
                "bad-field",
                "a PCR has no such number",
                expected="decimal 0 to 23",
                seen=ascii(key[:80]),
            )
        pcrs[int(key)] = read(fields, key)
    return pcrs


def _blobs(fields: Fields, name: str, max_items: int, max_length: int) -> tuple[bytes, ...]:
    items = fields.list(name, max_items=max_items)
    blobs = tuple(item for item in items if isinstance(item, bytes) and len(item) <= max_length)
    if len(blobs) != len(items):
        raise FormatError(
            "bad-field",
            f"evidence field {name!r} is wrong",
            expected=f"byte strings of at most {max_length} bytes",
        )
    return blobs
