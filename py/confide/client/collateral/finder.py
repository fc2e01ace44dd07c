"""Finds the collateral that some evidence needs: a bundle first, the cache second, vendors last.

What is missing never raises: the verdict names it. Each problem on the way is one line to `report`.
Evidence that needs nothing, as that of development machines, touches neither disk nor network.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from confide.client.collateral.cache import Cache, Refusal, default_folder
from confide.client.collateral.fetch import DOWN_SECONDS, MAX_RETRY_AFTER, Fetcher, NoAnswerError
from confide.client.collateral.freshness import end_of, is_young
from confide.client.collateral.vendors import Request, request_for
from confide.errors import ConfigError, FormatError, PolicyError
from confide.protocol.collateral import MAX_BUNDLE, Bundle, Item
from confide.protocol.manifest import Manifest, RoleEntry
from confide.protocol.roles import Role
from confide.verify.collateral import About, missing_for
from confide.verify.items.dates import newer
from confide.verify.parsed import ParsedEvidence
from confide.verify.x509 import utc

FindCollateral = Callable[[bytes, Manifest], Bundle]
"""From a coordinator's encoded evidence, and the manifest it is judged by, to the collateral."""

MAX_REQUESTS = 256
"""For one evidence, which anyone may have written; eight GPUs need some forty."""


class Finder:
    """Looks for items, and remembers across calls what it has found and who has refused.

    `report` gets one line per problem, `progress` one per request. Without a `fetcher` no vendor is
    asked. `clock` gives unix seconds.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        cache: Cache,
        fetcher: Fetcher | None,
        report: Callable[[str], None],
        progress: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._bundle = bundle
        self._cache = cache
        self._fetcher = fetcher
        self._report = report
        self._progress = progress
        self._clock = clock

    def __call__(self, evidence: bytes, manifest: Manifest) -> Bundle:
        """As `FindCollateral`. Evidence that cannot be read needs none."""
        try:
            parsed, role = ParsedEvidence.parse(evidence), manifest.role(Role.COORDINATOR)
        except (FormatError, PolicyError):
            return Bundle()
        return self.find(parsed, role, manifest)

    def find(self, evidence: ParsedEvidence, role: RoleEntry, manifest: Manifest) -> Bundle:
        """The items that verifying this evidence takes, as far as they were found; no others.

        None of them has expired.
        """
        search = _Search(self._bundle, self._cache, self._fetcher, self._progress, self._clock)
        found: dict[str, Item] = {}
        tried: set[str] = set()
        while new := {
            name: about
            for name, about in missing_for(evidence, role, manifest, Bundle(found)).items()
            if name not in tried
        }:
            for name, about in new.items():
                tried.add(name)
                item = search.item(name, about)
                if item is not None:
                    found[name] = item
        for problem in search.problems:
            self._report(problem)
        return Bundle(found)


class _Search:
    """One search; `problems` are distinct lines, in the order in which they were met."""

    def __init__(
        self,
        bundle: Bundle,
        cache: Cache,
        fetcher: Fetcher | None,
        progress: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._bundle = bundle
        self._cache = cache
        self._fetcher = fetcher
        self._progress = progress
        self._now = int(clock())
        self._requests = 0
        self.problems: dict[str, None] = {}

    def item(self, name: str, about: About) -> Item | None:
        """An item that has not expired, preferably a young one."""
        held = self._held(name)
        if held is not None and (end_of(name, held) is None or is_young(held, self._now)):
            return held
        return newer(name, self._ask(name, about), held)

    def _held(self, name: str) -> Item | None:
        """The newer one of bundle and cache, as far as they are of use."""
        bundled, cached = self._bundle.get(name), self._cache.get(name)
        if bundled is not None and not self._is_usable(name, bundled, "the bundle's"):
            bundled = None
        if cached is not None and not self._is_usable(name, cached, "the cache's"):
            cached = None
            self._cache.drop(name)
        if bundled is not None and cached is not None and cached.fetched > bundled.fetched:
            bundled, cached = cached, bundled
        return newer(name, bundled, cached)

    def _is_usable(self, name: str, item: Item, whose: str) -> bool:
        try:
            end = end_of(name, item)
        except FormatError as error:
            self._problem(f"{whose} {name} is not used: {error}")
            return False
        if end is not None and end < self._now:
            self._problem(f"{whose} {name} is not used: it expired at {utc(end)}")
            return False
        return True

    def _ask(self, name: str, about: About) -> Item | None:
        request = request_for(name, about) if self._fetcher else None
        if self._fetcher is None or request is None or self._is_refused(name, request):
            return None
        self._requests += 1
        if self._requests > MAX_REQUESTS:
            self._problem(
                f"more than {MAX_REQUESTS} requests for one evidence: the rest is not sent"
            )
            return None
        self._progress(f"asking {request.vendor.name} for {name}")
        try:
            items = request.read(self._fetcher.get(request))
        except NoAnswerError as error:
            key = request.vendor.name if error.vendor_wide else name
            self._cache.refuse(key, Refusal(self._now + error.seconds, error.reason))
            self._is_refused(name, request)
            return None
        except FormatError as error:
            items = {}
            self._problem(f"{request.vendor.name}: {error}")
        whose = f"{request.vendor.name}:"
        usable = {n: item for n, item in items.items() if self._is_usable(n, item, whose)}
        for other, item in usable.items():
            # A vendor's own caches may give an older one than before.
            self._cache.put(other, newer(other, item, self._cache.get(other)) or item)
        if name not in usable:
            refusal = Refusal(self._now + DOWN_SECONDS, "gave an answer that cannot be used")
            self._cache.refuse(name, refusal)
        return usable.get(name)

    def _is_refused(self, name: str, request: Request) -> bool:
        """Whether the vendor has refused all, or this, not long ago; says so."""
        vendor = request.vendor
        for key, what, hint in (
            (vendor.name, "", f"; {vendor.without}"),
            (name, f" for {name}", ""),
        ):
            refusal = self._cache.refusal(key)
            # One that is further off than any is made was written by another clock.
            if refusal and self._now < refusal.until <= self._now + MAX_RETRY_AFTER:
                again = f"not asked again before {utc(refusal.until)}"
                self._problem(f"{vendor.name} {refusal.reason}{what}: {again}{hint}")
                return True
        return False

    def _problem(self, line: str) -> None:
        self.problems[line] = None


def read_bundle(path: Path) -> Bundle:
    """A bundle from a file.

    Raises ConfigError if the file cannot be read, FormatError if it is not a bundle.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BUNDLE + 1)
    except OSError as error:
        raise ConfigError(
            "unreadable-file", "the collateral cannot be read", seen=f"{path}: {error.strerror}"
        ) from error
    return Bundle.parse(data)


def offline(bundle: Bundle | None = None) -> FindCollateral:
    """Finds what is in `bundle`, and nothing else."""
    found = bundle or Bundle()
    return lambda _evidence, _manifest: found


def make_finder(
    bundle: Path | None,
    *,
    online: bool,
    report: Callable[[str], None],
    progress: Callable[[str], None] = lambda _: None,
) -> Finder:
    """What the options --collateral and --offline ask for; `report` gets one line per problem."""
    return Finder(
        read_bundle(bundle) if bundle else Bundle(),
        cache=Cache(default_folder(), report),
        fetcher=Fetcher() if online else None,
        report=report,
        progress=progress,
    )
