"""Makes tests/vectors/protocol.json, the test vectors of docs/protocol.md, from fixed inputs.

    PYTHONPATH=py:. python tests/vectors/make_protocol_vectors.py            writes the file
    PYTHONPATH=py:. python tests/vectors/make_protocol_vectors.py --check    exits 1 if it is stale

Everything is computed anew, but for what cannot be made twice alike: X.509 certificates (random
serial numbers and signatures) and the HPKE message (random encapsulation). These are taken over
from the file as it is, and made only if the file is gone. tests/unit/protocol/test_vectors.py
checks them like all the rest, with code of its own. Every key in here is public and protects
nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from confide.encoding.canonical import cbor_encode, json_encode
from confide.errors import PolicyError
from confide.guest.coordinator.ca import Authority, create_mesh_ca, create_root_ca, issue_leaf
from confide.protocol.binding import (
    coordinator_report_data,
    inventory_report_data,
    join_report_data,
    report_data,
)
from confide.protocol.configdisk import ConfigDisk
from confide.protocol.engine_options import EngineOptions
from confide.protocol.evidence import Evidence, VtpmReport
from confide.protocol.frames import Usage
from confide.protocol.gpu import gpu_binding
from confide.protocol.history import NO_PREVIOUS, HistoryEntry, encode_history
from confide.protocol.keyexchange import InferenceKey, KemPrivateKey, seal_key
from confide.protocol.launch import UNBOUND, binding_pcr, mrconfigid
from confide.protocol.manifest import Manifest, Platforms, RoleEntry
from confide.protocol.model import Model
from confide.protocol.nonce_tree import NonceTree
from confide.protocol.policy.vtpm import REQUIRED_PCRS, DevelopmentCa, VtpmReference
from confide.protocol.receipt import SIGNATURE_LABEL, Receipt, Statement
from confide.protocol.roles import Role
from confide.protocol.sealed import RequestHeaders, RequestOpener, RequestSealer, clear_error
from confide.protocol.validity import DAY, DEFAULT_DAYS

FILE = Path(__file__).with_name("protocol.json")
NOW = 1_800_000_000
CERTIFICATES = ("root_ca", "mesh_ca", "secret_service", "worker")

Vector = dict[str, Any]


def octets(label: str) -> bytes:
    """32 bytes that anybody can make again: SHA-256 of a label."""
    return sha256(f"confide test vector: {label}".encode()).digest()


def private_key(label: str) -> ec.EllipticCurvePrivateKey:
    """A P-256 key whose scalar is `octets(label)`; these labels give scalars below the order."""
    return ec.derive_private_key(int.from_bytes(octets(label), "big"), ec.SECP256R1())


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """RFC 6979, so that the vector stays; verifiers accept any ECDSA signature."""
    return key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


def manifest() -> Manifest:
    """The manifest that all other vectors are for."""
    roles = {
        role: RoleEntry(
            (VtpmReference("q35-2", {i: octets(f"{role} {i}") for i in REQUIRED_PCRS}),)
        )
        for role in (Role.COORDINATOR, Role.SECRET_SERVICE, Role.WORKER_CPU)
    }
    model = Model(
        "tiny",
        octets("root hash"),
        8192,
        ("chat", "completion"),
        ("worker-cpu",),
        EngineOptions(max_model_len=4096, dtype="float32"),
    )
    platforms = Platforms(vtpm=DevelopmentCa(octets("development CA")))
    return Manifest(
        "development", platforms, roles, (model,), released=NOW, expires=NOW + DEFAULT_DAYS * DAY
    )


def certificates(old: Vector | None, kem_public: bytes) -> Vector:
    """Root CA, mesh CA and two leaves with known keys."""
    keys = {name: private_key(name) for name in ("root CA", "mesh CA", "secret service", "worker")}
    if old is None:
        with patch.object(ec, "generate_private_key", return_value=keys["root CA"]):
            root = create_root_ca(now=NOW)
        with patch.object(ec, "generate_private_key", return_value=keys["mesh CA"]):
            mesh = create_mesh_ca(root, manifest_sha256=manifest().sha256, now=NOW)
        made = {
            "root_ca": root.der,
            "mesh_ca": mesh.der,
            "secret_service": _leaf(mesh, "secret-service", (), keys["secret service"], kem_public),
            "worker": _leaf(mesh, "worker-cpu", ("tiny",), keys["worker"], b""),
        }
        old = {name: der.hex() for name, der in made.items()}
    return {
        **{name: old[name] for name in CERTIFICATES},
        "names": {name: _names(bytes.fromhex(old[name])) for name in CERTIFICATES},
        "private_scalars": {name: octets(name).hex() for name in keys},
        "valid_at": NOW,
    }


def _leaf(
    mesh: Authority,
    role: str,
    models: tuple[str, ...],
    key: ec.EllipticCurvePrivateKey,
    kem_public: bytes,
) -> bytes:
    return issue_leaf(
        mesh, role=role, models=models, public_key=spki(key), kem_public_key=kem_public, now=NOW
    )


def _names(der: bytes) -> list[str]:
    """The subject alternative names in their order, a DNS name behind "DNS:"."""
    extensions = x509.load_der_x509_certificate(der).extensions
    return [
        ("DNS:" if isinstance(name, x509.DNSName) else "") + name.value
        for extension in extensions
        if isinstance(extension.value, x509.SubjectAlternativeName)
        for name in extension.value
    ]


def kem() -> KemPrivateKey:
    """A KEM key pair from fixed secrets."""
    return KemPrivateKey(
        MLKEM768PrivateKey.from_seed_bytes(octets("ML-KEM d") + octets("ML-KEM z")),
        X25519PrivateKey.from_private_bytes(octets("X25519")),
    )


def inference_key() -> InferenceKey:
    return InferenceKey(octets("inference key"), ("tiny",), NOW)


def key_exchange(old: Vector | None) -> Vector:
    """One sealed key message. Its randomness is in the message itself."""
    key, digest = inference_key(), manifest().sha256
    if old is None:
        message = seal_key(key, kem().public_bytes, manifest_sha256=digest).message
    else:
        message = bytes.fromhex(old["message"])
    opened, key_id = kem().open_key(message, manifest_sha256=digest, now=NOW)
    if opened != key:
        raise SystemExit(
            "protocol.json's key message holds another key: delete the file, run again"
        )
    return {
        "mlkem_seed": (octets("ML-KEM d") + octets("ML-KEM z")).hex(),
        "x25519_private": octets("X25519").hex(),
        "kem_public_key": kem().public_bytes.hex(),
        "info": (b"confide/key/1" + digest).hex(),
        "inference_key": key.key.hex(),
        "models": list(key.models),
        "issued": key.issued,
        "message": message.hex(),
        "key_id": key_id.hex(),
    }


def launch() -> Vector:
    """What a machine that is launched for the manifest carries on each platform."""
    binding = manifest().sha256
    return {
        "host_data": binding.hex(),
        "mrconfigid": mrconfigid(binding).hex(),
        "pcr_15": binding_pcr(binding).hex(),
        "unbound": {
            "host_data": UNBOUND.hex(),
            "mrconfigid": mrconfigid(UNBOUND).hex(),
            "pcr_15": binding_pcr(UNBOUND).hex(),
        },
    }


def bindings(certs: Vector, history_bytes: bytes) -> Vector:
    """report_data in general and for each purpose."""
    nonce = octets("nonce")
    nonces = [nonce, *(octets(f"nonce {number}") for number in range(1, 5))]
    tree = NonceTree(nonces)
    public_key = spki(private_key("worker"))
    return {
        "nonce": nonce.hex(),
        "gpus": {
            "none": gpu_binding([]).hex(),
            "refusal": "no-gpu",
            "refused": gpu_binding([], "no-gpu").hex(),
        },
        "plain": {
            "label": "example/1",
            "items": ["", "00", "010203"],
            "report_data": report_data("example/1", nonce, [b"", b"\0", b"\1\2\3"]).hex(),
        },
        "coordinator": {
            "time": NOW,
            "nonces": [value.hex() for value in nonces],
            "root": tree.root.hex(),
            "paths": [[value.hex() for value in tree.path(at)] for at in range(len(nonces))],
            "report_data": coordinator_report_data(
                tree.root,
                manifest=manifest().encode(),
                root_ca=bytes.fromhex(certs["root_ca"]),
                mesh_ca=bytes.fromhex(certs["mesh_ca"]),
                history=history_bytes,
                time=NOW,
            ).hex(),
        },
        "join": {
            "role": "worker-cpu",
            "public_key": public_key.hex(),
            "kem_public_key": "",
            "models": ["tiny"],
            "report_data": join_report_data(
                nonce,
                role="worker-cpu",
                public_key=public_key,
                kem_public_key=b"",
                manifest=manifest().encode(),
                models=["tiny"],
                mesh_ca=bytes.fromhex(certs["mesh_ca"]),
                gpus=gpu_binding([]),
            ).hex(),
        },
        "inventory": {"report_data": inventory_report_data(nonce).hex()},
    }


def history(certs: Vector) -> bytes:
    """A history of two entries; the second is for the manifest above."""
    entries: list[HistoryEntry] = []
    mesh_hash = sha256(bytes.fromhex(certs["mesh_ca"])).digest()
    for digest, mesh in ((octets("older manifest"), octets("older mesh CA")),
                         (manifest().sha256, mesh_hash)):  # fmt: skip
        previous = entries[-1].sha256 if entries else NO_PREVIOUS
        unsigned = HistoryEntry(len(entries), digest, previous, mesh, b"")
        signature = sign(private_key("root CA"), unsigned.signed_bytes())
        entries.append(HistoryEntry(len(entries), digest, previous, mesh, signature))
    return encode_history(entries)


def evidence() -> Vector:
    """A vTPM report and the evidence around it; the parts are placeholders."""
    report = VtpmReport(b"quote", b"signature", {0: octets("pcr 0"), 11: octets("pcr 11")})
    whole = Evidence("vtpm", report.encode(), (b"leaf", b"issuer"), b"log")
    return {
        "quote": b"quote".hex(),
        "signature": b"signature".hex(),
        "pcrs": {str(index): value.hex() for index, value in report.pcrs.items()},
        "report": report.encode().hex(),
        "endorsements": [b"leaf".hex(), b"issuer".hex()],
        "event_log": b"log".hex(),
        "evidence": whole.encode().hex(),
    }


def exchange(certs: Vector, key_id: bytes) -> Vector:
    """A request and its whole response, with the receipt at its end."""
    place = {"method": "POST", "path": "/v1/completions", "model": "tiny"}
    body = b'{"model": "tiny", "prompt": "Hello", "stream": true}'
    key = inference_key().key
    request_salt, response_salt = octets("request salt"), octets("response salt")
    with patch("os.urandom", return_value=request_salt):
        sealer = RequestSealer(key, key_id)
    sealed = sealer.seal(**place, body=body)
    opened = RequestOpener(key, key_id).open(sealed, **place)
    with patch("os.urandom", return_value=response_salt):
        response = opened.response_sealer()
    chunks = [b'data: {"text": "Hi"}\n\n', b"x" * 600, b""]
    stream = response.head(200, "text/event-stream")
    stream += b"".join(map(response.data, chunks)) + response.usage(7, 3)
    statement = Statement(
        request_sha256=sealer.request_sha256,
        response_sha256=response.response_sha256,
        manifest_sha256=manifest().sha256,
        model="tiny",
        model_root_hash=octets("root hash"),
        time=NOW,
        usage=Usage(7, 3),
    ).encode()
    signature = sign(private_key("worker"), SIGNATURE_LABEL + statement)
    receipt = Receipt(statement, signature, bytes.fromhex(certs["worker"])).encode()
    return {
        "request": {
            **place,
            "headers": RequestHeaders("tiny", key_id, "shard-1").encode(),
            "body": body.hex(),
            "salt": request_salt.hex(),
            "sealed": sealed.hex(),
        },
        "response": {
            "salt": response_salt.hex(),
            "status": 200,
            "content_type": "text/event-stream",
            "chunks": [chunk.hex() for chunk in chunks],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3},
            "receipt": receipt.hex(),
            "statement": statement.hex(),
            "stream": (stream + response.final(receipt)).hex(),
        },
        "clear_error": {
            "code": "unknown-key",
            "message": "no such key",
            "stream": clear_error(PolicyError("unknown-key", "no such key")).hex(),
        },
    }


def encodings() -> Vector:
    """Values in both encodings, and bytes that a reader must refuse."""
    value = {"b": [1, -1, 24, 256, 65536, 2**32], "a": None, "aa": True, "": "\u00e4\u20ac"}
    return {
        "value": value,
        "json": json_encode(value).hex(),  # type: ignore[arg-type]
        "cbor": cbor_encode(value).hex(),  # type: ignore[arg-type]
        "cbor_of_bytes": cbor_encode(bytes(24)).hex(),
        "cbor_refused": {
            "trailing byte": "f600",
            "integer not shortest": "1801",
            "indefinite list": "9f01ff",
            "double key": "a2616101616102",
            "unsorted keys": "a2616201616101",
            "integer key": "a10101",
            "float": "f93c00",
            "tag": "c24101",
            "17 levels": "81" * 17 + "00",
        },
    }


def config_disk() -> Vector:
    disk = ConfigDisk(
        bytes(range(32)), "http://10.0.2.2:8000", "https://10.0.2.2:8443", ("tiny",)
    ).encode()
    return {"text": disk.rstrip(b"\0").decode(), "sha256": sha256(disk).hexdigest()}


def build(old: Vector) -> bytes:
    """The whole file, as canonical JSON."""
    certs = certificates(old.get("certificates"), kem().public_bytes)
    exchanged = key_exchange(old.get("key_exchange"))
    history_bytes = history(certs)
    return json_encode(
        {
            "about": "Test vectors of docs/protocol.md. Byte strings are hex. No key is secret.",
            "encodings": encodings(),
            "manifest": {"text": manifest().encode().decode(), "sha256": manifest().sha256.hex()},
            "launch": launch(),
            "binding": bindings(certs, history_bytes),
            "evidence": evidence(),
            "certificates": certs,
            "history": {"bytes": history_bytes.hex()},
            "key_exchange": exchanged,
            "exchange": exchange(certs, bytes.fromhex(exchanged["key_id"])),
            "config_disk": config_disk(),
        }
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the protocol's test vectors.")
    parser.add_argument("--check", action="store_true", help="only compare with the file")
    check = parser.parse_args().check
    committed = FILE.read_bytes() if FILE.exists() else b""
    made = build(json.loads(committed) if committed else {})
    if check and made != committed:
        print(f"{FILE.name} is not current: run {Path(__file__).name}", file=sys.stderr)
        return 1
    if not check:
        FILE.write_bytes(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
