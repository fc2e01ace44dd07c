"""Gives a coordinator collateral: what its own evidence needs, and what that of its nodes needs.

Nodes verify the coordinator by the items that it holds, and it verifies them by the same. So an
upload adds to what is there: one about nodes must not take away what the nodes need themselves.
"""

from __future__ import annotations

from typing import Protocol

from confide.client.collateral.freshness import end_of
from confide.errors import FormatError
from confide.protocol.collateral import MAX_BUNDLE, MAX_ITEMS, Bundle, Item


class Holder(Protocol):
    """What this needs of CoordinatorClient."""

    def collateral(self) -> Bundle:
        """The collateral that the coordinator has."""

    def set_collateral(self, bundle: Bundle) -> None:
        """Replace it."""


def give_collateral(holder: Holder, bundle: Bundle, *, now: int) -> Bundle:
    """Add the items of a bundle to those of a coordinator. Returns what it then holds.

    Of two items with one name, that of `bundle` counts, whatever the other one says of itself:
    anybody may have brought that. Items that cannot be read or have expired are dropped, and all
    the coordinator's items are if both do not fit together.

    Args:
        holder: the coordinator.
        bundle: items to add. Of an empty bundle nothing is sent.
        now: unix seconds.

    Raises:
        ConfideError: the coordinator is unreachable or refuses.
    """
    if not bundle.items:
        return bundle
    held = {n: i for n, i in holder.collateral().items.items() if _is_usable(n, i, now)}
    both = Bundle(held | dict(bundle.items))
    fits = len(both.items) <= MAX_ITEMS and len(both.encode()) <= MAX_BUNDLE
    merged = both if fits else bundle
    holder.set_collateral(merged)
    return merged


def _is_usable(name: str, item: Item, now: int) -> bool:
    try:
        end = end_of(name, item)
    except FormatError:
        return False
    return end is None or end >= now
