"""Gives a coordinator collateral: what its own evidence needs, and what that of its nodes needs.

Nodes verify the coordinator by the items that it holds, and it verifies them by the same. It adds
what is new to it; nobody can take anything away.
"""

from __future__ import annotations

from typing import Protocol

from confide.errors import PolicyError
from confide.protocol.collateral import Bundle
from confide.protocol.coordinator import CollateralReply


class Holder(Protocol):
    """What this needs of CoordinatorClient."""

    def add_collateral(self, bundle: Bundle) -> CollateralReply:
        """Give it these items."""


def give_collateral(holder: Holder, bundle: Bundle) -> None:
    """Add the items of a bundle to those of a coordinator. Of an empty bundle nothing is sent.

    Raises:
        PolicyError: `collateral-refused` if it refuses an item. It has taken the others.
        ConfideError: the coordinator is unreachable or refuses all of them.
    """
    if not bundle.items:
        return
    reply = holder.add_collateral(bundle)
    if reply.refused:
        first = reply.refused[0]
        raise PolicyError(
            "collateral-refused",
            f"the coordinator refuses {len(reply.refused)} of {len(bundle.items)} items",
            expected="items that are genuine, current and of use for its manifest",
            seen=f"{first.name}: {first.code}: {first.reason}",
            next="bring what `confide collateral fetch` finds, and check the coordinator's clock",
        )
