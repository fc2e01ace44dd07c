"""A SIMULATED machine with a vTPM, for tests only: it signs whatever registers a test gives it.

Its attestation key is certified by the published development CA, its quote and event log have the
wire format of a real TPM and firmware, so the real verifier runs on them. Nothing was booted.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from confide.encoding.canonical import json_encode
from confide.host.development_ca import (
    development_ca_certificate,
    development_ca_spki_sha256,
    issue_ak_certificate,
)
from confide.host.manifest_builder import stamp
from confide.protocol.evidence import Evidence, VtpmReport
from confide.protocol.launch import BINDING_PCR
from confide.protocol.manifest import Manifest
from confide.protocol.policy.vtpm import REQUIRED_PCRS
from confide.protocol.validity import DAY, DEFAULT_DAYS
from confide.vendors.tpm.structures import (
    TPM_GENERATED,
    TPM_ST_ATTEST_QUOTE,
    Alg,
    encode_pcr_selection,
    pcr_digest,
    sized,
    u16,
    u32,
)

NOW = 1_800_000_000
MODEL = "tiny"


class Clock:
    """A clock that tests turn; call it like time.time."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def measurements(role: str) -> dict[int, bytes]:
    """What the image of a role is measured as: the digest of one event per register."""
    return {pcr: sha256(f"{role} {pcr}".encode()).digest() for pcr in REQUIRED_PCRS}


def registers(events: Mapping[int, bytes]) -> dict[int, bytes]:
    """Register values after one event each."""
    return {pcr: sha256(bytes(32) + digest).digest() for pcr, digest in events.items()}


def manifest_value(models: Iterable[dict[str, Any]] | None = None) -> dict[str, Any]:
    """A manifest that accepts the simulated machines of all three roles."""
    tiny = {
        "name": MODEL,
        "root_hash": "cd" * 32,
        "hash_offset": 4096,
        "tasks": ["chat", "completion"],
        "roles": ["worker-cpu"],
        "engine": {},
    }
    return {
        "format": "confide-manifest/4",
        "mode": "development",
        "platforms": {"vtpm": {"development_ca": development_ca_spki_sha256().hex()}},
        "roles": {
            role: {
                "vtpm": [
                    {
                        "shape": "simulated",
                        "pcrs": {
                            str(pcr): value.hex()
                            for pcr, value in registers(measurements(role)).items()
                        },
                    }
                ]
            }
            for role in ("coordinator", "secret-service", "worker-cpu")
        },
        "models": [tiny] if models is None else list(models),
        "released": NOW - DAY,
        "expires": NOW + DEFAULT_DAYS * DAY,
        "update_keys": [],
        "recovery_keys": [],
    }


def manifest_bytes(**changes: Any) -> bytes:
    """The canonical bytes of a valid manifest, with top-level fields replaced."""
    data = json_encode(manifest_value() | changes)
    Manifest.parse(data)
    return data


def current_manifest(**changes: Any) -> bytes:
    """The same for programs, whose clock is the real one."""
    return stamp(manifest_bytes(**changes), now=int(time.time()))


class SimulatedMachine:
    """An attester (see confide.guest.attest.hardware) of a machine that booted the image of `role`.

    It was launched for `manifest`. `events` overrides what single registers were extended with, and
    `pcrs` are the values that it quotes.
    """

    def __init__(
        self,
        role: str,
        *,
        manifest: bytes | None = None,
        events: Mapping[int, bytes] | None = None,
        now: int = NOW,
    ) -> None:
        self._events = measurements(role) | dict(events or {})
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = issue_ak_certificate(
            self._key.public_key(), datetime.fromtimestamp(now, UTC)
        )
        self.quotes = 0
        self.binding = sha256(manifest_bytes() if manifest is None else manifest).digest()
        # the machine itself extends PCR 15 after boot, so no log of the firmware's has the event
        self.pcrs = registers(self._events | {BINDING_PCR: self.binding})

    def evidence(self, report_data: bytes) -> Evidence:
        self.quotes += 1
        pcrs = dict(sorted(self.pcrs.items()))
        quote = (
            u32(TPM_GENERATED)
            + u16(TPM_ST_ATTEST_QUOTE)
            + sized(u16(Alg.SHA256) + bytes(32))
            + sized(report_data[:32])
            + bytes(8 + 4 + 4)
            + b"\x01"
            + bytes(8)
            + encode_pcr_selection(pcrs)
            + sized(pcr_digest(pcrs))
        )
        r, s = decode_dss_signature(self._key.sign(quote, ec.ECDSA(hashes.SHA256())))
        signature = u16(Alg.ECDSA) + u16(Alg.SHA256)
        signature += sized(r.to_bytes(32)) + sized(s.to_bytes(32))
        return Evidence(
            platform="vtpm",
            report=VtpmReport(quote, signature, pcrs).encode(),
            endorsements=(self._certificate, development_ca_certificate()),
            event_log=event_log(self._events),
        )


def event_log(events: Mapping[int, bytes]) -> bytes:
    """A crypto-agile log of one SHA-256 event per register (PC Client Profile 1.06, section 10)."""
    spec = b"Spec ID Event03\0" + struct.pack("<IBBBBIHHB", 0, 0, 2, 0, 2, 1, Alg.SHA256, 32, 0)
    log = struct.pack("<II20sI", 0, 3, bytes(20), len(spec)) + spec
    for pcr, digest in events.items():
        log += struct.pack("<III", pcr, 0x80000007, 1) + struct.pack("<H", Alg.SHA256) + digest
        log += struct.pack("<I", 0)
    return log
