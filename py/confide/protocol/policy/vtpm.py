"""What a manifest says of vTPMs: who vouches for their keys, and which registers are accepted.

A vTPM is made by the host's own software, so it protects nothing against the host. Whoever names an
authority for one trusts that host: the published development CA stands for "anybody", and a cloud
is an opt-out that says so in its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from confide.encoding.canonical import Json
from confide.encoding.fields import Fields, check_name
from confide.errors import FormatError
from confide.protocol.evidence import PCR_SIZE, read_pcrs

# What each covers: docs/protocol.md. 1, 6, 10 and 15 to 23 hold nothing that the image decides.
REQUIRED_PCRS = (0, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 14)
CLOUDS = ("google",)


@dataclass(frozen=True)
class VtpmReference:
    """Accepted registers of one machine shape: register number to 32-byte SHA-256 bank value."""

    shape: str
    pcrs: Mapping[int, bytes]

    @classmethod
    def read(cls, fields: Fields) -> VtpmReference:
        """Raises FormatError if a register of `REQUIRED_PCRS` is left open."""
        shape = fields.name("shape")
        pcrs = read_pcrs(fields.map("pcrs"), lambda reader, key: reader.hex(key, PCR_SIZE))
        fields.done()
        missing = [str(index) for index in REQUIRED_PCRS if index not in pcrs]
        if missing:
            raise FormatError(
                "manifest-pcrs",
                f"shape {shape} leaves registers open",
                expected="PCRs " + " ".join(map(str, REQUIRED_PCRS)),
                seen="no PCR " + " ".join(missing),
            )
        return cls(shape, pcrs)

    def to_json(self) -> Json:
        """As it stands in a manifest."""
        pcrs: dict[str, Json] = {str(i): value.hex() for i, value in self.pcrs.items()}
        return {"shape": check_name(self.shape, "shape"), "pcrs": pcrs}


@dataclass(frozen=True)
class DevelopmentCa:
    """The published CA of the runner: `spki_sha256` is the SHA-256 (32 bytes) of its SPKI DER."""

    spki_sha256: bytes


@dataclass(frozen=True)
class InsecureCloud:
    """A cloud (one of `CLOUDS`) that puts its TPMs' certificates into their NV memory.

    Insecure in the sense of this project: that cloud's hypervisor is then trusted.
    """

    name: str


VtpmAuthority = DevelopmentCa | InsecureCloud


def read_authority(fields: Fields) -> VtpmAuthority:
    """One of {"development_ca": SHA-256} and {"insecure_cloud": name}. Raises FormatError."""
    authority: VtpmAuthority
    if fields.has("insecure_cloud"):
        authority = InsecureCloud(fields.text("insecure_cloud", one_of=CLOUDS))
    else:
        authority = DevelopmentCa(fields.hex("development_ca", 32))
    fields.done()
    return authority


def authority_to_json(authority: VtpmAuthority) -> Json:
    """As it stands in a manifest."""
    if isinstance(authority, DevelopmentCa):
        return {"development_ca": authority.spki_sha256.hex()}
    return {"insecure_cloud": authority.name}
