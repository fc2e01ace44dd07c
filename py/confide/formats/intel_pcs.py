"""Intel's Provisioning Certification Service: its answers, taken apart without a byte changed.

What Intel signed is one JSON object inside the answer, and the signature is over exactly the bytes
that stand there: parsing them and writing them out again would break it.

Source: Intel's Provisioning Certification Service API, version 4: "Get TCB Info", "Get Quoting
Enclave Identity"; each comes with its signers' chain (PEM) in a header.
"""

from __future__ import annotations

import re

from confide.errors import FormatError
from confide.formats.collateral import Item
from confide.formats.pem import read_chain
from confide.formats.tdx_collateral import SIGNATURE_SIZE, SIGNING_CHAIN_LENGTH, TdxCollateral

_SIGNATURE = re.compile(rb'\s*,\s*"signature"\s*:\s*"([0-9a-fA-F]{128})"\s*\}\s*')


def split_signed(body: bytes, name: str) -> tuple[bytes, bytes]:
    """The object called `name` as it stands in an answer, and the signature (64 bytes) over it.

    Raises FormatError unless the answer is `{"NAME": OBJECT, "signature": "HEX"}`.
    """
    start = re.match(rb'\s*\{\s*"' + name.encode() + rb'"\s*:\s*(?=\{)', body)
    at = body.rfind(b"}", 0, body.rfind(b'"signature"')) + 1
    end = _SIGNATURE.fullmatch(body, at)
    if start is None or end is None or start.end() >= at:
        raise FormatError(
            "bad-collateral",
            f"Intel's {name} is not of the form",
            expected=f'{{"{name}": ..., "signature": {2 * SIGNATURE_SIZE} hex digits}}',
            seen=f"{len(body)} bytes",
        )
    return body[start.end() : at], bytes.fromhex(end[1].decode())


def collateral(
    *, tcb_info: Item, qe_identity: Item, root_ca_crl: bytes, pck_crl: bytes
) -> TdxCollateral:
    """What a verifier takes, from Intel's answers. Raises FormatError."""
    info, info_signature = split_signed(tcb_info.data, "tcbInfo")
    identity, identity_signature = split_signed(qe_identity.data, "enclaveIdentity")
    return TdxCollateral(
        tcb_info=info,
        tcb_info_signature=info_signature,
        tcb_info_chain=_chain(tcb_info, "TCB info"),
        qe_identity=identity,
        qe_identity_signature=identity_signature,
        qe_identity_chain=_chain(qe_identity, "QE identity"),
        root_ca_crl=root_ca_crl,
        pck_crl=pck_crl,
    )


def _chain(item: Item, what: str) -> tuple[bytes, ...]:
    return read_chain(item.chain, f"{what} signer", max_certificates=SIGNING_CHAIN_LENGTH)
