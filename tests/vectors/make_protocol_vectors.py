"""Makes tests/vectors/protocol.json, the test vectors of docs/protocol.md, from fixed inputs.

    PYTHONPATH=py:. python tests/vectors/make_protocol_vectors.py            writes the file
    PYTHONPATH=py:. python tests/vectors/make_protocol_vectors.py --check    exits 1 if it is stale

Everything is computed anew, but for what cannot be made twice alike: X.509 certificates (random
serial numbers and signatures) and what HPKE seals (random encapsulation). These are taken over
from the file as it is, and made only if they are not there. tests/unit/protocol/test_vectors.py
checks them like all the rest, with code of its own. Every key in here is public and protects
nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from hashlib import sha256
from pathlib import Path
from unittest.mock import patch

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from confide.encoding.canonical import cbor_encode, json_encode
from confide.guest.coordinator.ca import Authority, create_mesh_ca, create_root_ca, issue_leaf
from confide.protocol.binding import (
    coordinator_report_data,
    inventory_report_data,
    join_report_data,
    report_data,
)
from confide.protocol.configdisk import ConfigDisk
from confide.protocol.evidence import Evidence, VtpmReport
from confide.protocol.gpu import gpu_binding
from confide.protocol.history import NO_PREVIOUS, HistoryEntry, encode_history
from confide.protocol.launch import UNBOUND, binding_pcr, mrconfigid
from confide.protocol.nonce_tree import NonceTree
from confide.protocol.padding import padme
from tests.support.exchange_vectors import billing, exchange, keys
from tests.support.vector_inputs import NOW, Vector, kem, manifest, octets, private_key, sign, spki

FILE = Path(__file__).with_name("protocol.json")
CERTIFICATES = ("root_ca", "mesh_ca", "secret_service", "worker")
LENGTHS = (0, 511, 512, 513, 1024, 1025, 9999, 65_535, 65_537, 1_000_000, 16_777_216)


def certificates(old: Vector | None) -> Vector:
    """Root CA, mesh CA and two leaves with known keys."""
    keys = {name: private_key(name) for name in ("root CA", "mesh CA", "secret service", "worker")}
    service, worker = kem("secret service").public_bytes, kem("worker").public_bytes
    if old is None:
        with patch.object(ec, "generate_private_key", return_value=keys["root CA"]):
            root = create_root_ca(now=NOW)
        with patch.object(ec, "generate_private_key", return_value=keys["mesh CA"]):
            mesh = create_mesh_ca(root, manifest_sha256=manifest().sha256, now=NOW)
        made = {
            "root_ca": root.der,
            "mesh_ca": mesh.der,
            "secret_service": _leaf(mesh, "secret-service", (), keys["secret service"], service),
            "worker": _leaf(mesh, "worker-cpu", ("tiny",), keys["worker"], worker),
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
            "kem_public_key": kem("worker").public_bytes.hex(),
            "models": ["tiny"],
            "report_data": join_report_data(
                nonce,
                role="worker-cpu",
                public_key=public_key,
                kem_public_key=kem("worker").public_bytes,
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
    services = ("https://10.0.2.2:8443", "https://10.0.2.2:8444")
    disk = ConfigDisk(bytes(range(32)), "http://10.0.2.2:8000", services, ("tiny",)).encode()
    return {"text": disk.rstrip(b"\0").decode(), "sha256": sha256(disk).hexdigest()}


def build(old: Vector) -> bytes:
    """The whole file, as canonical JSON."""
    certs = certificates(old.get("certificates"))
    key = keys(old.get("keys"))
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
            "keys": key,
            "billing": billing(bytes.fromhex(key["key_id"])),
            "padding": {str(length): padme(length) for length in LENGTHS},
            "exchange": exchange(certs, key),
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
