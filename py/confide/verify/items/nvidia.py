"""NVIDIA's items: RIMs, which carry their signer's chain, and OCSP answers, which get one.

The nonce of an answer is that of the person who asked, so it shows a holder only that the answer is
to that question. How fresh an answer is, its times say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import ocsp

from confide.encoding.pem import read_chain
from confide.protocol.collateral import Item
from confide.protocol.policy.gpu import GpuPolicy, OptOut
from confide.vendors.nvidia.rim import MAX_CERTIFICATES
from confide.vendors.nvidia.spdm import NONCE_SIZE
from confide.verify import roots
from confide.verify.chain import Walker
from confide.verify.items.dates import Dates, read_dates
from confide.verify.items.faults import (
    not_genuine,
    not_needed,
    require,
    require_current,
    without_signer,
)
from confide.verify.items.needs import takes_version
from confide.verify.nvidia.chain import PROFILE, load_chain
from confide.verify.nvidia.collateral import OcspAnswer
from confide.verify.nvidia.revocation import CLOCK_SKEW, UNKNOWN, read_answer
from confide.verify.nvidia.rim import verify_rim
from confide.verify.x509 import is_ca, spki_sha256


def check_rim(name: str, item: Item, policies: Sequence[GpuPolicy], now: int) -> Dates:
    """Reference values, for the driver or VBIOS that the name says. Raises ConfideError."""
    dates = read_dates(name, item)
    require_current(name, dates, now)
    rim_id = name.rpartition("/")[2]
    checks, signed = verify_rim(rim_id, item.data, now=now, root=roots.NVIDIA_RIM)
    if signed is None:
        raise not_genuine(name, "a RIM that NVIDIA signed", checks[-1].seen)
    for check in checks:
        require(name, check)
    rim, version = signed.rim, signed.rim.version.upper()
    what = "vbios" if rim_id.startswith("NV_GPU_VBIOS_") else "driver"
    ending = version.replace(".", "") if what == "vbios" else f"{rim.product}_{version}"
    if rim.edition != "GPU" or not rim_id.endswith(f"_{ending}"):
        about = f"{rim.edition} {rim.product} {rim.version}"
        raise not_genuine(name, "reference values for what the name says", about)
    if not any(takes_version(policy, rim.product, what, version) for policy in policies):
        expected = f"a {what} that the manifest accepts for this chip"
        raise not_needed(name, expected, f"{rim.product} {rim.version}")
    return dates


def renews(name: str, item: Item, before: Item, held: Mapping[str, Item], now: int) -> bool:
    """Whether a RIM is only signed anew, so that what passes by `before` passes by it, for longer.

    NVIDIA's signers last two years. Both RIMs have passed `check_rim`. They have to state the same,
    and answers that are held have to say of the new signers that they are good.
    """
    rim_id = name.rpartition("/")[2]
    (_, new), (_, old) = (verify_rim(rim_id, rim.data, now=now) for rim in (item, before))
    if new is None or old is None or new.rim != old.rim:
        return False
    ends = [Dates().within(signed.chain).end or 0 for signed in (new, old)]
    return ends[0] > ends[1] and all(_is_good(signer, held, now) for signer in new.chain[:-1])


def _is_good(certificate: x509.Certificate, held: Mapping[str, Item], now: int) -> bool:
    name = f"nvidia/ocsp/{certificate.fingerprint(hashes.SHA256()).hex()}"
    if name not in held:
        return False
    response = ocsp.load_der_ocsp_response(held[name].data)
    end = read_dates(name, held[name]).end
    return (
        response.certificate_status == ocsp.OCSPCertStatus.GOOD and end is not None and now <= end
    )


def check_answer(name: str, item: Item, policies: Sequence[GpuPolicy], now: int) -> Dates:
    """An answer about the first certificate of the item's chain. Raises ConfideError."""
    dates = read_dates(name, item)
    require_current(name, dates, now, early=CLOCK_SKEW)
    if not item.chain:
        raise without_signer(name, "the chain from the certificate to NVIDIA's root")
    ders = read_chain(item.chain, f"chain of {name}", max_certificates=MAX_CERTIFICATES)
    seen = hashlib.sha256(ders[0]).hexdigest()
    if not name.endswith(f"/{seen}"):
        raise not_genuine(name, "a chain that begins with that certificate", f"with {seen}")
    chain = load_chain(ders, "OCSP chain's")
    require_current(name, Dates().within(chain), now)
    root = spki_sha256(chain[-1])
    if root not in (roots.NVIDIA_DEVICE.spki_sha256, roots.NVIDIA_RIM.spki_sha256):
        raise not_genuine(name, "a chain to a pinned root key of NVIDIA's", root.hex())
    # Above the leaf in the chain of a GPU, whose own certificate nobody is asked about.
    first = int(is_ca(chain[0]) or root == roots.NVIDIA_DEVICE.spki_sha256)
    faults = Walker().faults(chain, PROFILE, first=first)
    fault = next(filter(None, faults), "" if len(chain) > 1 else "a root: none is asked")
    if fault:
        raise not_genuine(name, "each certificate signed by the next", fault)
    answer = OcspAnswer(item.data, item.nonce.ljust(NONCE_SIZE, b"\0"))
    found = read_answer(answer, chain[0], chain[1], now)
    if isinstance(found, str):
        raise not_genuine(name, "an answer about that certificate", found)
    response, nonce = found
    for policy in policies:
        if nonce is None and OptOut.OCSP_WITHOUT_NONCE not in policy.opt_outs:
            raise not_needed(name, "an answer with a nonce", "none")
        if response.certificate_status == UNKNOWN and OptOut.OCSP_UNKNOWN not in policy.opt_outs:
            raise not_needed(name, "an answer that says good or revoked", "unknown")
    return dates
