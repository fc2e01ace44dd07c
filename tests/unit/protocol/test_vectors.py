"""The test vectors: current, computed alike by a second implementation, and read by the package."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from confide.encoding.canonical import cbor_decode
from confide.encoding.x509 import load_certificate
from confide.errors import FormatError
from confide.protocol import (
    certificates,
    configdisk,
    frames,
    history,
    kem,
    keyexchange,
    sealed,
    share,
    usage,
    validity,
)
from confide.protocol.configdisk import ConfigDisk
from confide.protocol.evidence import Evidence, VtpmReport
from confide.protocol.history import parse_history, verify_history
from confide.protocol.manifest import Manifest
from confide.protocol.nonce_tree import MAX_DEPTH
from confide.verify.mesh import verify_leaf, verify_mesh_ca
from tests.support import independent
from tests.support.independent import cbor, sha256, uncbor
from tests.support.protocol_vectors import VECTORS, b, manifest_bytes

ROOT = Path(__file__).parents[3]
GENERATOR = ROOT / "tests/vectors/make_protocol_vectors.py"


def run_generator(*arguments: str) -> subprocess.CompletedProcess[str]:
    # The package may be installed beside its wheels, found by PYTHONPATH alone.
    path = os.pathsep.join(
        filter(None, [str(ROOT / "py"), str(ROOT), os.environ.get("PYTHONPATH")])
    )
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, str(GENERATOR), *arguments],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_file_is_current() -> None:
    result = run_generator("--check")
    assert result.returncode == 0, result.stderr


def test_the_document_quotes_the_file() -> None:
    document = (ROOT / "docs/protocol.md").read_text()
    quoted = re.findall(r"`([0-9a-f]{32,})`", document)
    assert len(quoted) >= 5
    text = json.dumps(VECTORS)
    assert [value for value in quoted if value not in text] == []


@pytest.mark.parametrize(
    "value",
    [
        f"`{certificates.MANIFEST_PREFIX}HEX`",
        f"`{certificates.ROLE_PREFIX}NAME`",
        f"`{certificates.KEM_KEY_PREFIX}HEX`",
        f"`{certificates.MODEL_PREFIX}NAME`",
        f"`{certificates.dns_name('ROLE')}`",
        f"{frames.MAX_CONTENT:,}",
        f"{frames.MAX_PAYLOAD:,}",
        f"{kem.KEM_PUBLIC_SIZE:,}",
        f"{kem.ENC_SIZE:,}",
        f"{sealed.MIN_REQUEST:,} bytes to 16 MiB",
        f"sealed share ({share.SEALED_SHARE_SIZE})",
        f"{usage.TEMPLATE_TOKENS:,}",
        f"{keyexchange.KEY_LIFETIME:,} s after",
        f"{keyexchange.CLOCK_SKEW} s in the future",
        f"replaces M {keyexchange.KEY_REPLACE_AFTER:,} s after",
        f"sent nothing for {frames.WAIT_SECONDS:.0f} s",
        f"At most {MAX_DEPTH} hashes",
        f"issued more than {certificates.LEAF_LIFETIME} s ago",
        f"at most {validity.CLOCK_TOLERANCE} s apart",
        f"{configdisk.DISK_SIZE:,} bytes",
        f"at most {history.MAX_ENTRIES} entries",
    ],
)
def test_the_document_knows_the_constants(value: str) -> None:
    assert value in (ROOT / "docs/protocol.md").read_text()


# Computed again, without the package


def test_encodings() -> None:
    vector = VECTORS["encodings"]
    assert independent.cbor(vector["value"]).hex() == vector["cbor"]
    text = independent.canonical_json(vector["value"]) + "\n"
    assert text.encode().hex() == vector["json"]
    assert independent.cbor(bytes(24)).hex() == vector["cbor_of_bytes"]
    assert uncbor(b("encodings", "cbor")) == vector["value"]


def test_manifest() -> None:
    data = manifest_bytes()
    assert independent.canonical_json(json.loads(data)).encode() + b"\n" == data
    assert sha256(data).hex() == VECTORS["manifest"]["sha256"]


def test_launch() -> None:
    for digest, vector in (
        (sha256(manifest_bytes()), VECTORS["launch"]),
        (bytes(32), VECTORS["launch"]["unbound"]),
    ):
        assert vector["host_data"] == digest.hex()
        assert vector["mrconfigid"] == digest.hex() + "00" * 16
        assert vector["pcr_15"] == sha256(bytes(32) + digest).hex()


def test_binding() -> None:
    nonce = b("binding", "nonce")
    plain = VECTORS["binding"]["plain"]
    items = [bytes.fromhex(item) for item in plain["items"]]
    assert independent.report_data(plain["label"], nonce, items).hex() == plain["report_data"]
    mesh_ca = b("certificates", "mesh_ca")
    vector = VECTORS["binding"]["coordinator"]
    coordinator = [
        manifest_bytes(), b("certificates", "root_ca"), mesh_ca, b("history", "bytes"),
        vector["time"].to_bytes(8, "big"),
    ]  # fmt: skip
    root = b("binding", "coordinator", "root")
    assert independent.report_data("confide/coordinator/2", root, coordinator) == b(
        "binding", "coordinator", "report_data"
    )
    join = VECTORS["binding"]["join"]
    joined = [
        join["role"].encode(),
        bytes.fromhex(join["public_key"]),
        bytes.fromhex(join["kem_public_key"]),
        manifest_bytes(),
        cbor(join["models"]),
        mesh_ca,
        cbor({"devices": [], "refusal": ""}),
    ]
    assert independent.report_data("confide/join/2", nonce, joined).hex() == join["report_data"]
    assert independent.report_data("confide/inventory/1", nonce, []) == b(
        "binding", "inventory", "report_data"
    )


def test_gpu_binding() -> None:
    gpus = VECTORS["binding"]["gpus"]
    assert cbor({"devices": [], "refusal": ""}).hex() == gpus["none"]
    assert cbor({"devices": [], "refusal": gpus["refusal"]}).hex() == gpus["refused"]


def test_evidence() -> None:
    vector = VECTORS["evidence"]
    report = {
        "quote": bytes.fromhex(vector["quote"]),
        "signature": bytes.fromhex(vector["signature"]),
        "pcrs": {index: bytes.fromhex(value) for index, value in vector["pcrs"].items()},
    }
    assert cbor(report).hex() == vector["report"]
    whole = {
        "platform": "vtpm",
        "report": cbor(report),
        "endorsements": [bytes.fromhex(item) for item in vector["endorsements"]],
        "event_log": bytes.fromhex(vector["event_log"]),
        "gpus": [],
        "gpu_refusal": "",
    }
    assert cbor(whole).hex() == vector["evidence"]


def test_certificates() -> None:
    scalars = VECTORS["certificates"]["private_scalars"]
    for name, key in (
        ("root_ca", "root CA"),
        ("mesh_ca", "mesh CA"),
        ("secret_service", "secret service"),
        ("worker", "worker"),
    ):
        certificate = x509.load_der_x509_certificate(b("certificates", name))
        private = ec.derive_private_key(int(scalars[key], 16), ec.SECP256R1())
        assert certificate.public_key() == private.public_key()
        names = independent.alternative_names(*VECTORS["certificates"]["names"][name])
        assert (names in b("certificates", name)) == (name != "root_ca")


def test_names_of_certificates() -> None:
    kem = {
        name: f"confide:kem-key:{sha256(b('keys', name, 'kem_public_key')).hex()}"
        for name in ("secret_service", "worker")
    }
    assert VECTORS["certificates"]["names"] == {
        "root_ca": [],
        "mesh_ca": [f"confide:manifest:{sha256(manifest_bytes()).hex()}"],
        "secret_service": [
            "DNS:secret-service.confide.internal", "confide:role:secret-service",
            kem["secret_service"],
        ],
        "worker": [
            "DNS:worker-cpu.confide.internal", "confide:role:worker-cpu", kem["worker"],
            "confide:model:tiny",
        ],
    }  # fmt: skip


def test_history() -> None:
    previous = bytes(32)
    root = x509.load_der_x509_certificate(b("certificates", "root_ca")).public_key()
    assert isinstance(root, ec.EllipticCurvePublicKey)
    entries = uncbor(b("history", "bytes"))
    for index, entry in enumerate(entries):
        assert (entry["sequence"], entry["previous"]) == (index, previous)
        signed = {name: item for name, item in entry.items() if name != "signature"}
        data = b"confide/history/1\0" + cbor(signed)
        root.verify(entry["signature"], data, ec.ECDSA(hashes.SHA256()))
        previous = sha256(cbor(entry))
    assert entries[-1]["manifest_sha256"] == sha256(manifest_bytes())
    assert entries[-1]["mesh_ca_sha256"] == sha256(b("certificates", "mesh_ca"))


def test_clear_error() -> None:
    error = VECTORS["exchange"]["clear_error"]
    fields = {"code": error["code"], "message": error["message"]}
    payload = cbor({**fields, "expected": "", "seen": "", "next": ""})
    assert independent.record(3, payload).hex() == error["stream"]


def test_config_disk() -> None:
    vector = VECTORS["config_disk"]
    text = vector["text"].encode()
    assert independent.canonical_json(json.loads(text)).encode() + b"\n" == text
    assert sha256(text + bytes(65536 - len(text))).hex() == vector["sha256"]


# Read by the package


def test_the_package_reads_all_of_it() -> None:
    now = VECTORS["certificates"]["valid_at"]
    root_ca, mesh_ca = b("certificates", "root_ca"), b("certificates", "mesh_ca")
    manifest = Manifest.parse(manifest_bytes())
    verify_mesh_ca(mesh_ca, root_ca, manifest_sha256=manifest.sha256, now=now)
    identity = verify_leaf(
        b("certificates", "secret_service"), mesh_ca, root_ca, role="secret-service", now=now
    )
    assert identity.kem_key_sha256 == sha256(b("keys", "secret_service", "kem_public_key"))
    assert identity.issued == now
    root_key = certificates.public_key_of(load_certificate(root_ca, "root"), "root")
    verify_history(
        parse_history(b("history", "bytes")),
        root_key=root_key,
        manifest_sha256=manifest.sha256,
        mesh_ca=mesh_ca,
    )
    evidence = Evidence.parse(b("evidence", "evidence"))
    assert VtpmReport.parse(evidence.report).pcrs[11] == b("evidence", "pcrs", "11")
    text = VECTORS["config_disk"]["text"].encode()
    config = ConfigDisk.parse(text.ljust(65536, b"\0"))
    assert (config.manifest_sha256, config.models) == (bytes(range(32)), ("tiny",))


@pytest.mark.parametrize("name", VECTORS["encodings"]["cbor_refused"])
def test_the_package_refuses(name: str) -> None:
    with pytest.raises(FormatError):
        cbor_decode(b("encodings", "cbor_refused", name), what=name)
