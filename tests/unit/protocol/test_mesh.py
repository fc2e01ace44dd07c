"""Mesh certificates: the chain that our CA makes verifies, and each deviation is refused."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID
from hypothesis import given
from hypothesis import strategies as st

from confide.encoding.x509 import load_certificate
from confide.errors import ConfideError, FormatError, VerificationError
from confide.guest.coordinator.ca import Authority, create_mesh_ca, create_root_ca, issue_leaf
from confide.protocol import certificates as profile
from confide.verify.mesh import verify_leaf, verify_mesh_ca, verify_root_ca
from tests.support.mesh import NOW, Mesh, make_mesh
from tests.support.remade import Extensions, drop, put, remake

UNKNOWN = x509.ObjectIdentifier("2.25.1")
# Where protocol 1 had the two hashes.
OLD_KEM_KEY = x509.ObjectIdentifier("2.25.174267239364210870136312783361262829361")
OLD_MANIFEST = x509.ObjectIdentifier("2.25.305186723415021871210987312837465928374")


def spki_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def check(mesh: Mesh, leaf: bytes, role: str = "worker-cpu", now: int = NOW) -> None:
    verify_leaf(leaf, mesh.mesh.der, mesh.root.der, role=role, now=now)


def test_chain(mesh: Mesh) -> None:
    identity = verify_leaf(
        mesh.leaf("worker-cpu", ("tiny", "big")),
        mesh.mesh.der,
        mesh.root.der,
        role="worker-cpu",
        now=NOW,
    )
    assert identity.role == "worker-cpu"
    assert identity.models == ("tiny", "big")
    assert identity.kem_key_sha256 == sha256(mesh.kem.public_bytes).digest()
    assert identity.public_key == mesh.key.public_key()
    assert identity.not_after == NOW + 3600
    verify_mesh_ca(mesh.mesh.der, mesh.root.der, manifest_sha256=mesh.manifest_sha256, now=NOW)
    verify_root_ca(mesh.root.der, now=NOW)


def test_without_kem_key(mesh: Mesh) -> None:
    leaf = issue_leaf(
        mesh.mesh, role="gw", models=[], public_key=mesh.spki, kem_public_key=b"", now=NOW
    )
    identity = verify_leaf(leaf, mesh.mesh.der, mesh.root.der, role="gw", now=NOW)
    assert identity.kem_key_sha256 is None
    assert identity.models == ()


def test_role_is_exact(mesh: Mesh) -> None:
    for role in ("secret-service", "worker", "worker-cpu2", "", "*"):
        with pytest.raises(VerificationError) as error:
            check(mesh, mesh.leaf("worker-cpu"), role)
        assert error.value.code == "wrong-role"
    verify_leaf(
        mesh.leaf(), mesh.mesh.der, mesh.root.der, role={"worker-cpu", "worker-gpu"}, now=NOW
    )
    for roles in ((), ("secret-service", "coordinator"), ("worker",)):
        with pytest.raises(VerificationError):
            verify_leaf(mesh.leaf(), mesh.mesh.der, mesh.root.der, role=roles, now=NOW)


def test_a_leaf_counts_for_an_hour_whatever_end_it_states(mesh: Mesh) -> None:
    """A coordinator's program that was made to issue for a day still cannot be believed so long."""
    long = remake(mesh.leaf(), mesh.mesh.key, end=NOW + 86400)
    check(mesh, long, now=NOW + 3600)
    with pytest.raises(VerificationError) as error:
        check(mesh, long, now=NOW + 3601)
    assert error.value.code == "leaf-too-old"


def test_a_leaf_of_the_future_is_not_valid_yet(mesh: Mesh) -> None:
    """By a coordinator whose clock was turned ahead, for a client whose clock was not."""
    early = remake(mesh.leaf(), mesh.mesh.key, start=NOW - 299, end=NOW + 3601)
    check(mesh, early, now=NOW - 299)
    with pytest.raises(VerificationError) as error:
        check(mesh, early, now=NOW - 300)
    assert error.value.code == "not-valid-now"


def test_time(mesh: Mesh) -> None:
    leaf = mesh.leaf()
    check(mesh, leaf, now=NOW - 300)
    check(mesh, leaf, now=NOW + 3600)
    for now in (0, NOW - 301, NOW + 3601, NOW + 20 * 365 * 86400):
        with pytest.raises(VerificationError) as error:
            check(mesh, leaf, now=now)
        assert error.value.code == "not-valid-now"


def test_expired_authorities(mesh: Mesh) -> None:
    short = remake(mesh.mesh.der, mesh.root.key, end=NOW - 10, start=NOW - 20)
    with pytest.raises(VerificationError, match="mesh CA certificate is not valid"):
        verify_leaf(mesh.leaf(), short, mesh.root.der, role="worker-cpu", now=NOW)
    old = remake(mesh.root.der, mesh.root.key, end=NOW - 10, start=NOW - 20)
    with pytest.raises(VerificationError, match="root CA certificate is not valid"):
        verify_leaf(mesh.leaf(), mesh.mesh.der, old, role="worker-cpu", now=NOW)


def test_swapped_certificates(mesh: Mesh, other_mesh: Mesh) -> None:
    leaf, mesh_ca, root = mesh.leaf(), mesh.mesh.der, mesh.root.der
    chains = [
        (other_mesh.leaf(), mesh_ca, root),
        (leaf, other_mesh.mesh.der, root),
        (leaf, mesh_ca, other_mesh.root.der),
        (leaf, other_mesh.mesh.der, other_mesh.root.der),
        (leaf, root, root),
        (mesh_ca, root, root),
        (mesh_ca, mesh_ca, root),
        (leaf, leaf, root),
        (leaf, mesh_ca, mesh_ca),
    ]
    for chain in chains:
        with pytest.raises(VerificationError) as error:
            verify_leaf(*chain, role="worker-cpu", now=NOW)
        assert error.value.code in ("bad-chain", "bad-profile")


def test_a_leaf_cannot_issue(mesh: Mesh) -> None:
    """A node that signs a certificate with its own mesh key makes no second node."""
    fake = issue_leaf(
        Authority(mesh.key, x509.load_der_x509_certificate(mesh.leaf("worker-cpu"))),
        role="secret-service",
        models=[],
        public_key=spki_of(ec.generate_private_key(ec.SECP256R1())),
        kem_public_key=b"",
        now=NOW,
    )
    with pytest.raises(VerificationError):
        verify_leaf(fake, mesh.leaf("worker-cpu"), mesh.root.der, role="secret-service", now=NOW)
    with pytest.raises(VerificationError):
        check(mesh, fake, "secret-service")


def test_mesh_ca_for_another_manifest(mesh: Mesh) -> None:
    other = create_mesh_ca(mesh.root, manifest_sha256=bytes(32), now=NOW)
    with pytest.raises(VerificationError) as error:
        verify_mesh_ca(other.der, mesh.root.der, manifest_sha256=mesh.manifest_sha256, now=NOW)
    assert error.value.code == "wrong-manifest"


LEAF_DEVIATIONS: dict[str, Callable[[Extensions], None]] = {
    "unknown critical extension": put(x509.UnrecognizedExtension(UNKNOWN, b"x"), True),
    "unknown extension": put(x509.UnrecognizedExtension(UNKNOWN, b"x")),
    "is a CA": put(x509.BasicConstraints(True, 0), True),
    "constraints not critical": put(x509.BasicConstraints(False, None), False),
    "no constraints": drop(ExtensionOID.BASIC_CONSTRAINTS),
    "signs certificates": put(profile.key_usage(ca=True), True),
    "usage not critical": put(profile.key_usage(ca=False), False),
    "no usage": drop(ExtensionOID.KEY_USAGE),
    "server only": put(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])),
    "any use": put(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])),
    "no extended usage": drop(ExtensionOID.EXTENDED_KEY_USAGE),
    "no names": drop(ExtensionOID.SUBJECT_ALTERNATIVE_NAME),
    "no subject key id": drop(ExtensionOID.SUBJECT_KEY_IDENTIFIER),
    "no authority key id": drop(ExtensionOID.AUTHORITY_KEY_IDENTIFIER),
    "names critical": put(profile.leaf_names("worker-cpu", (), None), True),
    "an own extension": put(x509.UnrecognizedExtension(OLD_KEM_KEY, bytes(32))),
}  # fmt: skip


@pytest.mark.parametrize("name", LEAF_DEVIATIONS)
def test_leaf_deviations(name: str, mesh: Mesh) -> None:
    """Signed by the real mesh CA, and refused all the same."""
    leaf = remake(mesh.leaf(), mesh.mesh.key, LEAF_DEVIATIONS[name])
    with pytest.raises(VerificationError) as error:
        check(mesh, leaf)
    assert error.value.code == "bad-profile"


MESH_DEVIATIONS: dict[str, Callable[[Extensions], None]] = {
    "unknown critical extension": put(x509.UnrecognizedExtension(UNKNOWN, b"x"), True),
    "no CA": put(x509.BasicConstraints(False, None), True),
    "longer path": put(x509.BasicConstraints(True, 1), True),
    "any path": put(x509.BasicConstraints(True, None), True),
    "no constraints": drop(ExtensionOID.BASIC_CONSTRAINTS),
    "signs anything": put(profile.key_usage(ca=False), True),
    "no usage": drop(ExtensionOID.KEY_USAGE),
    "no manifest": drop(ExtensionOID.SUBJECT_ALTERNATIVE_NAME),
    "names critical": put(profile.mesh_ca_names(bytes(32)), True),
    "an own extension": put(x509.UnrecognizedExtension(OLD_MANIFEST, bytes(32))),
}


@pytest.mark.parametrize("name", MESH_DEVIATIONS)
def test_mesh_deviations(name: str, mesh: Mesh) -> None:
    mesh_ca = remake(mesh.mesh.der, mesh.root.key, MESH_DEVIATIONS[name])
    with pytest.raises(VerificationError) as error:
        verify_leaf(mesh.leaf(), mesh_ca, mesh.root.der, role="worker-cpu", now=NOW)
    assert error.value.code == "bad-profile"


@pytest.mark.parametrize("name", [n for n in MESH_DEVIATIONS if n != "longer path"])
def test_root_deviations(name: str, mesh: Mesh) -> None:
    if name == "no manifest":  # a root has none; here it gets one
        change = put(profile.mesh_ca_names(bytes(32)))
    else:
        change = MESH_DEVIATIONS[name]
    root = remake(mesh.root.der, mesh.root.key, change)
    with pytest.raises(VerificationError):
        verify_root_ca(root, now=NOW)


def test_other_algorithms(mesh: Mesh) -> None:
    sha384 = remake(mesh.leaf(), mesh.mesh.key, algorithm=hashes.SHA384())
    with pytest.raises(VerificationError, match="mesh profile"):
        check(mesh, sha384)
    keys: list[CertificatePublicKeyTypes] = [
        ec.generate_private_key(ec.SECP384R1()).public_key(),
        ed25519.Ed25519PrivateKey.generate().public_key(),
        rsa.generate_private_key(65537, 2048).public_key(),
    ]
    for key in keys:
        with pytest.raises(FormatError, match="P-256"):
            check(mesh, remake(mesh.leaf(), mesh.mesh.key, public_key=key))
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        with pytest.raises(FormatError, match="P-256"):
            issue_leaf(mesh.mesh, role="a", models=[], public_key=spki, kem_public_key=b"", now=NOW)


def test_authorities_have_p256_keys(mesh: Mesh) -> None:
    p384 = ec.generate_private_key(ec.SECP384R1())
    mesh_ca = remake(mesh.mesh.der, mesh.root.key, public_key=p384.public_key())
    with pytest.raises(FormatError, match="P-256"):
        verify_mesh_ca(mesh_ca, mesh.root.der, manifest_sha256=mesh.manifest_sha256, now=NOW)
    root = remake(mesh.root.der, p384, public_key=p384.public_key())
    with pytest.raises(FormatError, match="P-256"):
        verify_root_ca(root, now=NOW)


def test_another_issuer_name(mesh: Mesh) -> None:
    with pytest.raises(VerificationError) as error:
        check(mesh, remake(mesh.leaf(), mesh.mesh.key, issuer="Somebody"))
    assert error.value.code == "bad-chain"


def test_bytes_that_are_no_certificate(mesh: Mesh) -> None:
    leaf = mesh.leaf()
    for der in (b"", b"\0", leaf[:-1], leaf + b"\0", leaf[1:], bytes(20000)):
        with pytest.raises(FormatError):
            check(mesh, der)


def test_every_flipped_byte_is_refused(mesh: Mesh) -> None:
    leaf = mesh.leaf()
    for at in range(len(leaf)):
        with pytest.raises(ConfideError):
            check(mesh, leaf[:at] + bytes([leaf[at] ^ 1]) + leaf[at + 1 :])


SAMPLE = make_mesh().leaf()


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_certificates_raise_our_errors_only(changes: list[tuple[int, int]]) -> None:
    leaf = bytearray(SAMPLE)
    for at, value in changes:
        leaf[at % len(leaf)] = value
    try:
        profile.parse_leaf(load_certificate(bytes(leaf), "leaf"))
    except ConfideError:
        return


@given(st.binary(max_size=200))
def test_random_public_keys_raise_our_errors_only(data: bytes) -> None:
    with pytest.raises(FormatError):
        profile.load_public_key(data, "test")


def test_openssl_accepts_the_profile_in_strict_mode(tmp_path: Path) -> None:
    """A TLS handshake with certificates on both sides, in memory, at the real time.

    The client checks a host name, as any program does: that name is the server's role.
    """
    now = int(time.time())
    root = create_root_ca(now=now)
    mesh_ca = create_mesh_ca(root, manifest_sha256=bytes(32), now=now)

    def context(purpose: int, role: str) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = issue_leaf(
            mesh_ca, role=role, models=["a"], public_key=spki_of(key), kem_public_key=b"k", now=now
        )
        pem = [x509.load_der_x509_certificate(leaf), mesh_ca.certificate]
        chain = tmp_path / f"{role}.pem"
        chain.write_bytes(b"".join(certificate.public_bytes(Encoding.PEM) for certificate in pem))
        secret = tmp_path / f"{role}.key"
        secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        made = ssl.SSLContext(purpose)
        made.minimum_version = ssl.TLSVersion.TLSv1_3
        made.check_hostname = purpose == ssl.PROTOCOL_TLS_CLIENT
        made.verify_mode = ssl.CERT_REQUIRED
        made.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
        made.load_cert_chain(chain, secret)
        made.load_verify_locations(cadata=root.der)
        return made

    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context(ssl.PROTOCOL_TLS_CLIENT, "worker-cpu").wrap_bio(
        back, there, server_hostname="secret-service.confide.internal"
    )
    server = context(ssl.PROTOCOL_TLS_SERVER, "secret-service").wrap_bio(
        there, back, server_side=True
    )
    open_ends = [client, server]
    for _ in range(10):
        for end in list(open_ends):
            try:
                end.do_handshake()
                open_ends.remove(end)
            except ssl.SSLWantReadError:
                pass
    assert not open_ends
    client_leaf = server.getpeercert(binary_form=True)
    server_leaf = client.getpeercert(binary_form=True)
    assert client_leaf and server_leaf
    verify_leaf(client_leaf, mesh_ca.der, root.der, role="worker-cpu", now=now)
    verify_leaf(server_leaf, mesh_ca.der, root.der, role="secret-service", now=now)
