"""TLS 1.3 between members of the mesh. Both sides show certificates that name their roles.

The host chooses addresses, so host names are not checked. `peer_identity` checks the role in the
peer's certificate. OpenSSL checks the chain to the mesh CA during the handshake; verify/mesh.py
then checks the whole profile.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Collection

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from confide.errors import VerificationError
from confide.guest.mesh.join import Membership
from confide.protocol.certificates import MeshIdentity
from confide.verify.mesh import verify_leaf


def server_context(membership: Membership) -> ssl.SSLContext:
    """A context to accept connections of other members. Make a new one for each membership."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, membership)
    # No session tickets: a resumed session would outlive its certificates.
    context.num_tickets = 0
    return context


def client_context(membership: Membership) -> ssl.SSLContext:
    """A context to connect to another member. The caller must check the role by `peer_identity`."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, membership)


def peer_identity(
    connection: ssl.SSLSocket, membership: Membership, *, role: str | Collection[str]
) -> MeshIdentity:
    """The identity of the peer. Raises VerificationError unless its role is (one of) `role`."""
    certificate = connection.getpeercert(binary_form=True)
    if not certificate:
        raise VerificationError(
            "no-certificate",
            "the peer showed no certificate",
            expected="a certificate of this mesh",
        )
    return verify_leaf(
        certificate, membership.mesh_ca, membership.root_ca, role=role, now=int(time.time())
    )


def _context(protocol: int, membership: Membership) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    # Only the mesh CA is trusted: other meshes of the same root are not.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=membership.mesh_ca)
    _load_identity(context, membership)
    return context


def _load_identity(context: ssl.SSLContext, membership: Membership) -> None:
    # ssl reads keys from files only. A memfd is a file that is in no file system.
    key = membership.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    certificate = ssl.DER_cert_to_PEM_cert(membership.certificate).encode()
    descriptor = os.memfd_create("confide-identity", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, key + certificate)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
