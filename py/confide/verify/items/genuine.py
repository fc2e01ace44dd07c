"""Whether an item of collateral is its vendor's, current, and of use: one question for each kind.

An item passes only if the verification that takes it can pass: with the same signatures, roots and
times. So one that was taken in the place of another does not make that verification fail. Times
come first: they cost no signature, and holders hand on expired items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from confide.protocol.collateral import Item
from confide.verify.items import amd, intel, nvidia
from confide.verify.items.dates import Dates
from confide.verify.items.faults import not_needed
from confide.verify.items.needs import Kind, Needs

Genuine = tuple[Kind, Item, Dates]
"""The kind of an item, the item without what no signature vouches for, and how new it is."""


def read_genuine(
    name: str, item: Item, *, needs: Needs, held: Mapping[str, Item], now: int
) -> Genuine:
    """Check one item of this name.

    Args:
        name: what it is called, from anybody.
        item: the item, from anybody.
        needs: what the manifest leaves any use for.
        held: genuine items; signers that do not come with the item are looked up there.
        now: Unix seconds.

    Raises:
        PolicyError: `collateral-not-needed`.
        VerificationError: `collateral-not-genuine`, `collateral-without-signer`,
            `collateral-expired` or `collateral-not-valid-yet`.
        FormatError: it is not of the kind that its name says.
    """
    kind = needs.kind(name)
    bare = replace(item, chain=b"", nonce=b"")
    match name.split("/"):
        case ["amd", _, "crl"] if kind:
            return kind, bare, amd.check_list(name, bare, held, now)
        case ["amd", *_] if kind:
            return kind, bare, amd.check_certificate(name, bare, held, now)
        case ["intel", "crl", issuer] if kind:
            kept = bare if issuer == "root" else replace(item, nonce=b"")
            return kind, kept, intel.check_list(name, kept, held, now)
        case ["intel", *_] if kind and needs.tdx:
            # Anybody can put blanks behind it: up to all of the space that lists and issuers have.
            kept = replace(item, nonce=b"", data=item.data.rstrip())
            return kind, kept, intel.check_document(name, kept, needs.tdx, now)
        case ["nvidia", "rim", _] if kind:
            return kind, bare, nvidia.check_rim(name, bare, needs.gpus, now)
        case ["nvidia", "ocsp", _] if kind:
            return kind, item, nvidia.check_answer(name, item, needs.gpus, now)
    expected = "an item for an accepted product, a listed chip or a version that a policy accepts"
    raise not_needed(name, expected, "none of these")
