"""Collateral that anybody may add to and nobody can take from.

Rules of this module:

* What is kept is genuine, was current when it came, and is of use (`verify.items.genuine`).
* Of two items with one name, the newer one stays, by its vendor's own number and time. An expired
  one stays, too, until a newer one comes: nothing goes back.
* Certificates and RIMs have no order. One that a verification has used stays; of others, the one
  that came last.
* Each kind of item has its share of the space, so none can take another one's. If a share is full,
  those go that no verification has used in the last two hours, first the ones that came first.

So what passed a verification passes it again, whatever was added meanwhile, until the item expires
or its vendor says something else. A member attests again well within those two hours.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from confide.errors import ConfideError, PolicyError
from confide.protocol.collateral import MAX_BUNDLE, Bundle, Item
from confide.protocol.manifest import Manifest
from confide.verify.items.genuine import read_genuine
from confide.verify.items.needs import Kind, Needs

USED_SECONDS = 7200.0
"""How long an item is in use after a verification. A member attests again every 45 minutes."""

SHARES: Mapping[Kind, int] = {
    Kind.NAMED: MAX_BUNDLE * 2 // 16,
    Kind.VCEK: MAX_BUNDLE * 3 // 16,
    Kind.TCB_INFO: MAX_BUNDLE * 3 // 16,
    Kind.RIM: MAX_BUNDLE * 4 // 16,
    Kind.OCSP: MAX_BUNDLE * 3 // 16,
}
"""Bytes for each kind. A sixteenth is left for the bundle's own form."""

MAX_FAULTS = 64
"""Refused items of a bundle after which the rest is not read: each costs a few signatures, unless
its name alone was enough."""

_FORM = 64  # bytes of an item's form in a bundle, at most


@dataclass(frozen=True)
class Merged:
    """What became of each item, by name; for a refused one, the reason."""

    added: tuple[str, ...]
    ignored: tuple[str, ...]
    refused: Mapping[str, ConfideError]


@dataclass(frozen=True)
class _Held:
    kind: Kind
    item: Item
    edition: tuple[int, ...]
    size: int


class Collateral:
    """The items that one program holds. Thread-safe; `monotonic` gives seconds that only grow."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._held: dict[str, _Held] = {}  # in the order in which they came
        self._used: dict[str, float] = {}
        self._bundle = Bundle()
        self._encoded = self._bundle.encode()
        self._merging = threading.Lock()
        self._using = threading.Lock()

    @property
    def bundle(self) -> Bundle:
        """All items that are held now."""
        return self._bundle

    @property
    def encoded(self) -> bytes:
        """The bundle as it travels."""
        return self._encoded

    def use(self, names: Iterable[str]) -> None:
        """Note that a verification which passed has used these items."""
        now = self._monotonic()
        with self._using:
            self._used = {n: at for n, at in self._used.items() if now - at < USED_SECONDS}
            self._used |= dict.fromkeys(names, now)

    def merge(self, bundle: Bundle, manifest: Manifest, now: int) -> Merged:
        """Add the items that are newer than what is held, or that are not held.

        Args:
            bundle: items from anybody.
            manifest: what is verified with them.
            now: Unix seconds.
        """
        needs = Needs(manifest)
        added: list[str] = []
        ignored: list[str] = []
        refused: dict[str, ConfideError] = {}
        faults = 0
        with self._merging:  # one at a time: what strangers upload takes one processor at most
            for name, item in sorted(bundle.items.items(), key=_signers_first):
                try:
                    if faults >= MAX_FAULTS:
                        raise _not_read(name)
                    taken = self._add(name, item, needs, now)
                except ConfideError as error:
                    refused[name] = error
                    faults += needs.kind(name) is not None  # else it cost nothing
                else:
                    (added if taken else ignored).append(name)
            if added:
                self._bundle = Bundle(self._items())
                self._encoded = self._bundle.encode()
        return Merged(tuple(added), tuple(ignored), refused)

    def _add(self, name: str, item: Item, needs: Needs, now: int) -> bool:
        """Whether the item was added: not if one is held that is as new. Raises ConfideError."""
        before = self._held.get(name)
        if before is not None and (before.item.data, before.item.chain) == (item.data, item.chain):
            return False
        kind, kept, dates = read_genuine(name, item, needs=needs, held=self._items(), now=now)
        if before is not None and not self._replaces(name, kept, dates.edition, before):
            return False
        size = len(name) + len(kept.data) + len(kept.chain) + len(kept.nonce) + _FORM
        self._make_room(name, kind, size)
        self._held.pop(name, None)
        self._held[name] = _Held(kind, kept, dates.edition, size)
        return True

    def _replaces(self, name: str, item: Item, edition: tuple[int, ...], before: _Held) -> bool:
        if item.data == before.item.data and edition == before.edition:
            return False
        return edition > before.edition if edition else not self._in_use(name)

    def _make_room(self, name: str, kind: Kind, size: int) -> None:
        """Raises PolicyError if what is in use leaves no room for the item."""
        others = {n: held.size for n, held in self._held.items() if held.kind == kind and n != name}
        over = sum(others.values()) + size - SHARES[kind]
        going = []
        for other, its_size in others.items():
            if over > 0 and not self._in_use(other):
                going.append(other)
                over -= its_size
        if over > 0:
            raise PolicyError(
                "collateral-full",
                f"there is no room for {name}",
                expected=f"at most {SHARES[kind]} bytes of {kind}",
                seen="as many, all in use",
                next="bring it again when machines have left",
            )
        for other in going:
            del self._held[other]

    def _in_use(self, name: str) -> bool:
        at = self._used.get(name)
        return at is not None and self._monotonic() - at < USED_SECONDS

    def _items(self) -> dict[str, Item]:
        return {name: held.item for name, held in self._held.items()}


def _not_read(name: str) -> PolicyError:
    return PolicyError(
        "collateral-not-read",
        f"{name} was not read, because too many other items of the bundle are wrong",
        expected=f"at most {MAX_FAULTS} items that are refused",
        next="leave the wrong items out, and bring the others again",
    )


def _signers_first(named: tuple[str, Item]) -> int:
    """Issuers before what they signed, and Intel's documents, which come with the root, first."""
    match named[0].split("/"):
        case ["amd", _, "ark"]:
            return 0
        case ["amd", _, "ask" | "asvk"]:
            return 1
        case ["intel", "crl", _]:
            return 3
    return 2
