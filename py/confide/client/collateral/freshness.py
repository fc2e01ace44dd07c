"""How long an item of collateral may be used, as it states itself, and when to ask for a newer one.

Unverified: this is only about what is worth keeping. A verifier holds each item's times against its
own clock once more, after its signature.
"""

from __future__ import annotations

from confide.protocol.collateral import Item
from confide.verify.items.dates import read_dates

RENEW_AFTER = 86400
"""Seconds after which a newer one is asked for, where there can be one.

Revocation lists are good for months. Who only looked again at their end would learn of a revocation
just then. Until a newer one comes, the old one stays good.
"""


def end_of(name: str, item: Item) -> int | None:
    """Until when the item may be used (unix seconds, included); None for one that has no end.

    Raises FormatError if the item is not of the kind that its name says.
    """
    return read_dates(name, item).end


def is_young(item: Item, now: int) -> bool:
    """Whether nothing newer is worth asking for. A time of fetching that is to come proves none."""
    return 0 <= now - item.fetched < RENEW_AFTER
