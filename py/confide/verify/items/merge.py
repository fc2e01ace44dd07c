"""Collateral that anybody may add to and nobody can take from.

Rules of this module:

* What is kept is genuine, was current when it came, and is of use (`verify.items.genuine`).
* Of two items with one name, the newer one stays, by its vendor's own number and time. An expired
  one stays, too, until a newer one comes: nothing goes back.
* Certificates and RIMs have no order. One that a verification has used stays until it expires, or
  until its vendor signs the same reference values anew; of others, the one that came last stays.
* Each kind of item has its share of the space, so none can take another one's. If a share is full,
  those go that no verification has used in the last two hours, first the ones that came first.

So what passed a verification passes it again, whatever was added meanwhile, until the item expires
or its vendor says something else. A member attests again well within those two hours.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from confide.errors import ConfideError, PolicyError
from confide.protocol.collateral import MAX_BUNDLE, Bundle, Item
from confide.protocol.manifest import Manifest
from confide.verify.collateral import taken_by
from confide.verify.items.dates import Dates, read_dates
from confide.verify.items.genuine import read_genuine
from confide.verify.items.needs import Kind, Needs
from confide.verify.items.nvidia import renews
from confide.verify.parsed import ParsedEvidence

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
its name or its time alone was enough."""

# Not counted: a coordinator keeps expired items, and hands on as many as strangers brought.
_AT_WRONG_TIME = ("collateral-expired", "collateral-not-valid-yet")

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
    dates: Dates
    size: int

    def with_item(self, name: str, item: Item) -> _Held:
        """The same with another item of this name, which was genuine when it came."""
        return replace(self, item=item, dates=read_dates(name, item), size=_size(name, item))


@dataclass(frozen=True)
class _Use:
    """What a verification that passed has used, and when (monotonic seconds)."""

    item: Item
    at: float


class Collateral:
    """The items that one program holds. Thread-safe; `monotonic` gives seconds that only grow."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._held: dict[str, _Held] = {}  # in the order in which they came
        self._used: dict[str, _Use] = {}
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

    def use(self, names: Iterable[str], bundle: Bundle) -> None:
        """Note that a verification which passed has used these items of a bundle that was held.

        Somebody may have brought others since. Where there is no order, what was used comes back.
        """
        now = self._monotonic()
        used = {n: _Use(bundle.items[n], now) for n in names if n in bundle.items}
        with self._using:
            recent = {n: use for n, use in self._used.items() if now - use.at < USED_SECONDS}
            self._used = recent | used
            changed = any(self._bundle.get(name) != use.item for name, use in used.items())
        if changed:
            with self._merging:
                self._publish()

    def use_for(
        self, evidence: ParsedEvidence, role: str, manifest: Manifest, bundle: Bundle
    ) -> None:
        """Note that this evidence of a machine of this role has passed with a bundle."""
        self.use(taken_by(evidence, manifest.role(role), manifest, bundle), bundle)

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
                    cheap = error.code in _AT_WRONG_TIME or needs.kind(name) is None
                    faults += not cheap
                else:
                    (added if taken else ignored).append(name)
            if added:
                self._publish()
        return Merged(tuple(added), tuple(ignored), refused)

    def _add(self, name: str, item: Item, needs: Needs, now: int) -> bool:
        """Whether the item was added: not if one is held that is as new. Raises ConfideError."""
        before = self._held.get(name)
        if before is not None and (before.item.data, before.item.chain) == (item.data, item.chain):
            return False
        kind, kept, dates = read_genuine(name, item, needs=needs, held=self._items(), now=now)
        if before is not None and not self._replaces(name, kept, dates.edition, before, now):
            return False
        size = _size(name, kept)
        self._make_room(name, kind, size)
        self._held.pop(name, None)
        self._held[name] = _Held(kind, kept, dates, size)
        return True

    def _replaces(
        self, name: str, item: Item, edition: tuple[int, ...], before: _Held, now: int
    ) -> bool:
        if item.data == before.item.data and edition == before.dates.edition:
            return False
        if edition:
            return edition > before.dates.edition
        if not self._in_use(name):
            return True
        if before.dates.end is not None and now > before.dates.end:
            with self._using:
                self._used.pop(name, None)
            return True
        if before.kind is not Kind.RIM or not renews(name, item, before.item, self._items(), now):
            return False
        with self._using:
            # In use as the one before it, and from now on.
            self._used[name] = _Use(item, self._monotonic())
        return True

    def _publish(self) -> None:
        """Show what is held now. An item in use that has no order was not to be replaced."""
        with self._using:
            for name, use in self._used.items():
                held = self._held.get(name)
                if held and not held.dates.edition and held.item != use.item and self._in_use(name):
                    self._held[name] = held.with_item(name, use.item)
            self._bundle = Bundle(self._items())
        self._encoded = self._bundle.encode()

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
        use = self._used.get(name)
        return use is not None and self._monotonic() - use.at < USED_SECONDS

    def _items(self) -> dict[str, Item]:
        return {name: held.item for name, held in self._held.items()}


def _size(name: str, item: Item) -> int:
    return len(name) + len(item.data) + len(item.chain) + len(item.nonce) + _FORM


def _not_read(name: str) -> PolicyError:
    return PolicyError(
        "collateral-not-read",
        f"{name} was not read, because too many other items of the bundle are wrong",
        expected=f"at most {MAX_FAULTS} items that are refused",
        next="leave the wrong items out, and bring the others again",
    )


def _signers_first(named: tuple[str, Item]) -> int:
    """Issuers before what they signed. Intel's documents bring the root, and NVIDIA's answers say
    which signers are good.
    """
    match named[0].split("/"):
        case ["amd", _, "ark"]:
            return 0
        case ["amd", _, "ask" | "asvk"]:
            return 1
        case ["intel", "crl", _] | ["nvidia", "rim", _]:
            return 3
    return 2
