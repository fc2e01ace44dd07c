"""What `confide set` and `confide verify` do: fetch a proof, verify it, keep it.

This module moves bytes and chooses the nonce. `verify.service` makes every check.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from confide.client.collateral.finder import FindCollateral
from confide.client.collateral.upload import give_collateral
from confide.encoding.canonical import cbor_decode
from confide.encoding.files import read_file
from confide.encoding.messages import CborMessage
from confide.errors import ConfigError, FormatError, PolicyError, VerificationError
from confide.net.coordinator_client import CoordinatorClient
from confide.protocol.binding import NONCE_SIZE
from confide.protocol.collateral import MAX_BUNDLE, Bundle
from confide.protocol.coordinator import MAX_ATTESTATION, Attestation
from confide.protocol.evidence import Evidence
from confide.protocol.manifest import Manifest
from confide.protocol.opt_outs import require_given
from confide.protocol.secret_service import MAX_REPLY, KeyExchangeReply
from confide.verify.nodes import verify_key_exchange
from confide.verify.service import verify_coordinator, verify_unset_coordinator
from confide.verify.verdict import Verdict
from measure.kinds import Blob, Converted, Integer, Word

GATEWAY_PREFIX = "/confide/v1"
RECORD_FORMAT = "confide-record/2"
MAX_API_KEY_FILE = 4096
MAX_RECORD = MAX_ATTESTATION + MAX_REPLY + MAX_BUNDLE + 1024


@dataclass(frozen=True)
class Record(CborMessage, what="the record", limit=MAX_RECORD):
    """What a service answered to one nonce at one time: enough to verify it again later.

    `time` is in Unix seconds, by the clock of the client; `key_exchange` is empty if the client
    asked a coordinator directly; `collateral` is the vendor collateral of that time.
    """

    format: Annotated[str, Word((RECORD_FORMAT,))] = field(default=RECORD_FORMAT, init=False)
    nonce: Annotated[bytes, Blob(NONCE_SIZE)]
    time: Annotated[int, Integer()]
    attestation: Annotated[bytes, Blob(max_size=MAX_ATTESTATION)]
    key_exchange: Annotated[bytes, Blob(max_size=MAX_REPLY)]
    collateral: Annotated[
        Bundle, Converted(Blob(max_size=MAX_BUNDLE), read=Bundle.parse, write=Bundle.encode)
    ]


def read_proof(path: Path) -> Record | Evidence:
    """A saved record, or the evidence of one machine.

    Raises:
        ConfigError: The file cannot be read.
        FormatError: The file is neither.
    """
    data = read_file(path, "saved proof", MAX_RECORD)
    try:
        value = cbor_decode(data, what="saved proof", limit=MAX_RECORD)
    except FormatError as error:
        raise _not_a_proof(path, data) from error
    fields = value if isinstance(value, dict) else {}
    if "platform" in fields:
        return Evidence.parse(data)
    if "format" in fields:
        return Record.parse(data)
    raise _not_a_proof(path, data)


def _not_a_proof(path: Path, data: bytes) -> FormatError:
    return FormatError(
        "bad-cbor",
        f"the file {path} is neither a saved proof nor evidence",
        expected="what `confide verify --save` wrote, or the evidence of one machine (CBOR)",
        seen=f"{len(data)} bytes that start with {data[:8].hex()}" if data else "an empty file",
    )


def fetch_record(
    url: str,
    manifest: bytes,
    find_collateral: FindCollateral,
    *,
    api_key: str = "",
    now: Callable[[], float] = time.time,
) -> Record:
    """Ask the gateway or coordinator at `url` for its proof, with a fresh nonce.

    Args:
        url: The address; a gateway is tried first.
        manifest: The pinned bytes; they decide which collateral is needed.
        find_collateral: Finds that collateral.
        api_key: For the gateway; "" sends none.
        now: The clock, in Unix seconds.

    Raises:
        UnavailableError: The peer is unreachable.
        ConfideError: The peer refuses; the error is its own.
    """
    nonce = secrets.token_bytes(NONCE_SIZE)
    gateway = CoordinatorClient(url, prefix=GATEWAY_PREFIX, api_key=api_key)
    try:
        attestation, key_exchange = gateway.attest(nonce), gateway.key_exchange()
    except PolicyError as error:
        if error.code != "not-found":
            raise
        attestation, key_exchange = CoordinatorClient(url).attest(nonce), b""
    evidence = Attestation.parse(attestation).evidence
    collateral = find_collateral(evidence, Manifest.parse(manifest))
    return Record(nonce, int(now()), attestation, key_exchange, collateral)


def verify_record(record: Record, manifest: bytes, *, now: int) -> Verdict:
    """Verify a record by the pinned manifest, as of `now` in Unix seconds. Raises FormatError."""
    attestation = Attestation.parse(record.attestation)
    verdict = verify_coordinator(
        attestation,
        manifest_pinned=manifest,
        nonce=record.nonce,
        collateral=record.collateral,
        now=now,
    )
    if not record.key_exchange or not verdict.passed:
        # Without an attested mesh CA, nothing vouches for the secret service.
        return verdict
    return verdict + verify_key_exchange(
        KeyExchangeReply.parse(record.key_exchange),
        mesh_ca=attestation.mesh_ca,
        root_ca=attestation.root_ca,
        now=now,
    )


def set_manifest(
    coordinator: str,
    manifest: bytes,
    find_collateral: FindCollateral,
    *,
    opt_outs: Collection[str] = (),
    now: Callable[[], float] = time.time,
) -> Verdict:
    """Verify the coordinator at this URL, give it the manifest, and verify it again.

    A coordinator that already has exactly this manifest is only verified. Either way it then gets
    the collateral that it was verified with: its nodes verify it, too, and have no other source.
    It keeps what it has, and takes what is newer.

    Args:
        coordinator: The address.
        manifest: The bytes that it must have or get.
        find_collateral: Finds the collateral that its evidence needs.
        opt_outs: The opt-outs of the manifest, as the person gave them.
        now: The clock, in Unix seconds.

    Returns:
        The last verdict, which passed.

    Raises:
        PolicyError: The manifest is not valid now, or has an opt-out that was not given; or the
            coordinator refuses an item of the collateral.
        VerificationError: A check failed, or the coordinator took another manifest.
        UnavailableError: The coordinator is unreachable.
    """
    client = CoordinatorClient(coordinator)
    parsed = Manifest.parse(manifest)
    require_given(parsed.opt_outs, opt_outs)
    parsed.require_current(int(now()))
    nonce = secrets.token_bytes(NONCE_SIZE)
    attestation = Attestation.parse(client.attest(nonce))
    collateral = find_collateral(attestation.evidence, parsed)
    if not attestation.manifest:
        verify_unset_coordinator(
            attestation, manifest=parsed, nonce=nonce, collateral=collateral, now=int(now())
        ).require()
        taken = client.set_manifest(manifest)
        if taken != parsed.sha256:
            raise VerificationError(
                "wrong-manifest",
                "the coordinator took another manifest",
                expected=f"SHA-256 {parsed.sha256.hex()}",
                seen=f"SHA-256 {taken.hex()}",
                next="do not use this coordinator; boot a new one",
            )
        # Again, now that the evidence binds the manifest: the same coordinator must answer.
        nonce = secrets.token_bytes(NONCE_SIZE)
        root_ca = attestation.root_ca
        attestation = Attestation.parse(client.attest(nonce))
        if attestation.root_ca != root_ca:
            raise VerificationError(
                "coordinator-changed",
                "a different coordinator answers than a moment ago",
                next="run the command again; if it repeats, two machines share this address",
            )
    verdict = verify_coordinator(
        attestation,
        manifest_pinned=manifest,
        nonce=nonce,
        collateral=collateral,
        now=int(now()),
    )
    verdict.require()
    give_collateral(client, collateral)
    return verdict


def read_api_key(path: Path | None) -> str:
    """The API key for the gateway in this file; "" without a file.

    Raises:
        ConfigError: The file cannot be read, or is not one line of printable ASCII without spaces.
    """
    if path is None:
        return ""
    data = read_file(path, "API key file", MAX_API_KEY_FILE)
    key = data.decode("ascii", "replace").strip()
    if not (key.isascii() and key.isprintable() and key) or " " in key:
        raise ConfigError(
            "bad-api-key",
            "the API key file does not hold an API key",
            expected="one line of printable ASCII without spaces",
            seen=str(path),
        )
    return key
