"""The names in mesh certificates: what is not exactly the profile's list is refused."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from confide.errors import FormatError
from confide.protocol import certificates as profile
from confide.verify.mesh import verify_leaf, verify_mesh_ca
from tests.support.mesh import NOW, Mesh
from tests.support.remade import named, put, remake

UNKNOWN = x509.ObjectIdentifier("2.25.1")


def check(mesh: Mesh, leaf: bytes) -> None:
    verify_leaf(leaf, mesh.mesh.der, mesh.root.der, role="worker-cpu", now=NOW)


HOST = "DNS:worker-cpu.confide.internal"
ROLE = "confide:role:worker-cpu"
KEM_KEY = "confide:kem-key:" + "ab" * 32
MODEL = "confide:model:tiny"

# Each is a leaf of the profile but for one rule; the message names that rule.
ONE_ROLE = r"lacks a name, or has it twice; expected one URI confide:role:"
NOT_THESE = "names are not those of the mesh profile"
HASH = "hash in the certificate"
NAME_DEVIATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "two roles": (ONE_ROLE, (HOST, ROLE, "confide:role:secret-service")),
    "same role twice": (ONE_ROLE, (HOST, ROLE, ROLE)),
    "no role": (ONE_ROLE, (HOST, MODEL)),
    "empty role": ("the certificate's role is not a name", (HOST, "confide:role:")),
    "role with a slash": ("the certificate's role is not a name", (HOST, ROLE + "/x")),
    "role in capitals": ("the certificate's role is not a name", (HOST, "confide:role:Worker")),
    "model in capitals": ("a model of the certificate is not a name", (HOST, ROLE, MODEL + "A")),
    "model twice": ("names a model twice", (HOST, ROLE, MODEL, MODEL)),
    "short KEM hash": (HASH, (HOST, ROLE, KEM_KEY[:-2])),
    "long KEM hash": (HASH, (HOST, ROLE, KEM_KEY + "00")),
    "KEM hash in capitals": (HASH, (HOST, ROLE, KEM_KEY.replace("ab", "AB"))),
    "KEM hash with a line feed": (HASH, (HOST, ROLE, KEM_KEY + "\n")),
    "two KEM hashes": (NOT_THESE, (HOST, ROLE, KEM_KEY, "confide:kem-key:" + "cd" * 32)),
    "same KEM hash twice": (NOT_THESE, (HOST, ROLE, KEM_KEY, KEM_KEY)),
    "manifest hash": (NOT_THESE, (HOST, ROLE, "confide:manifest:" + "ab" * 32)),
    "another URI": (NOT_THESE, (HOST, ROLE, "https://example.test")),
    "no DNS name": (NOT_THESE, (ROLE, KEM_KEY, MODEL)),
    "DNS name of another role": (NOT_THESE, ("DNS:secret-service.confide.internal", ROLE)),
    "DNS name of another domain": (NOT_THESE, ("DNS:worker-cpu.example.test", ROLE)),
    "DNS name in capitals": (NOT_THESE, (HOST.replace("worker", "Worker"), ROLE)),
    "DNS name for any host": (NOT_THESE, ("DNS:*.confide.internal", ROLE)),
    "two DNS names": (NOT_THESE, (HOST, "DNS:secret-service.confide.internal", ROLE)),
    "DNS name last": (NOT_THESE, (ROLE, HOST)),
    "model before the KEM hash": (NOT_THESE, (HOST, ROLE, MODEL, KEM_KEY)),
}


@pytest.mark.parametrize("name", NAME_DEVIATIONS)
def test_name_deviations(name: str, mesh: Mesh) -> None:
    rule, names = NAME_DEVIATIONS[name]
    with pytest.raises(FormatError, match=rule):
        check(mesh, remake(mesh.leaf(), mesh.mesh.key, named(*names)))


def test_names_of_the_profile(mesh: Mesh) -> None:
    """What the deviations above deviate from is accepted."""
    check(mesh, remake(mesh.leaf(), mesh.mesh.key, named(HOST, ROLE, KEM_KEY, MODEL)))
    check(mesh, remake(mesh.leaf(), mesh.mesh.key, named(HOST, ROLE)))


@pytest.mark.parametrize(
    "name",
    [
        x509.IPAddress(IPv4Address("127.0.0.1")),
        x509.RFC822Name("a@example.test"),
        x509.RegisteredID(UNKNOWN),
        x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a")])),
        x509.OtherName(UNKNOWN, b"\5\0"),
    ],
    ids=lambda name: type(name).__name__,
)
def test_no_name_of_another_kind(name: x509.GeneralName, mesh: Mesh) -> None:
    names = x509.SubjectAlternativeName([*profile.leaf_names("worker-cpu", (), None), name])
    with pytest.raises(FormatError, match=NOT_THESE):
        check(mesh, remake(mesh.leaf(), mesh.mesh.key, put(names)))


MANIFEST = "confide:manifest:" + "ab" * 32
ONE_MANIFEST = r"lacks a name, or has it twice; expected one URI confide:manifest:"
MESH_NAME_DEVIATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "no manifest": (ONE_MANIFEST, ("confide:role:coordinator",)),
    "two manifests": (ONE_MANIFEST, (MANIFEST, "confide:manifest:" + "cd" * 32)),
    "same manifest twice": (ONE_MANIFEST, (MANIFEST, MANIFEST)),
    "short hash": (HASH, (MANIFEST[:-2],)),
    "long hash": (HASH, (MANIFEST + "00",)),
    "hash in capitals": (HASH, (MANIFEST.replace("ab", "AB"),)),
    "a role": (NOT_THESE, (MANIFEST, ROLE)),
    "a DNS name": (NOT_THESE, ("DNS:coordinator.confide.internal", MANIFEST)),
}


@pytest.mark.parametrize("name", MESH_NAME_DEVIATIONS)
def test_mesh_name_deviations(name: str, mesh: Mesh) -> None:
    """Refused as an issuer, too: not only where the manifest is compared."""
    rule, names = MESH_NAME_DEVIATIONS[name]
    mesh_ca = remake(mesh.mesh.der, mesh.root.key, named(*names))
    with pytest.raises(FormatError, match=rule):
        verify_leaf(mesh.leaf(), mesh_ca, mesh.root.der, role="worker-cpu", now=NOW)
    with pytest.raises(FormatError, match=rule):
        verify_mesh_ca(mesh_ca, mesh.root.der, manifest_sha256=bytes.fromhex("ab" * 32), now=NOW)
