"""One walk over a chain of certificates; a profile says what one vendor's chains look like.

Whom to trust is not decided here: the vendor's verifier compares the last certificate's key with a
pinned root, and checks times and revocation with `confide.verify.x509`.

Source: RFC 5280, 4.2 (critical extensions), 4.2.1.3 and 4.2.1.9 (who may sign), 6.1 (validation).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography import x509

from confide.verify.x509 import is_ca, is_signed_by, short_name, unknown_critical


@dataclass(frozen=True)
class Place:
    """What a certificate must be to stand in one place of a chain.

    Attributes:
        names: the common names that may stand here; empty for any.
        known_critical: critical extensions that are understood beside basic constraints and key
            usage; None if the vendor's parser has refused unknown ones.
        rule: what else the vendor demands: gives what is wrong with a certificate, "" if nothing.
    """

    names: tuple[str, ...] = ()
    known_critical: tuple[x509.ObjectIdentifier, ...] | None = ()
    rule: Callable[[x509.Certificate], str] = lambda _: ""


@dataclass(frozen=True)
class Profile:
    """What chains of one kind look like.

    Attributes:
        lengths: how many certificates there may be, at least 2.
        algorithms: the signature algorithms that are accepted.
        places: leaf first; the last one stands for all certificates above it, too.
    """

    lengths: range
    algorithms: tuple[x509.ObjectIdentifier, ...]
    places: tuple[Place, ...]


class Walker:
    """Walks chains, leaf first.

    Chains share certificates, above all the root: what was found out about one that stands in the
    same place below the same issuer is remembered, for as long as this object lives.
    """

    def __init__(self) -> None:
        # By identity, because hashing a certificate costs as much as a check. What is walked is
        # kept, so that no other object gets the same identity.
        self._kept: list[object] = []
        self._found: dict[tuple[int, ...], str] = {}
        self._signed: dict[tuple[int, int], bool] = {}

    def faults(
        self, chain: Sequence[x509.Certificate], profile: Profile, *, first: int = 0
    ) -> list[str]:
        """What is wrong with each certificate, "" where nothing is.

        `first` is the place of the first one: 0 for a leaf, more for the upper part of a chain.

        A certificate has a name of its place; it may sign certificates if it is not the leaf, as
        deep as it stands, and may not if it is the leaf; it has no critical extension that is not
        understood, passes the rule of its place, and is signed by the next one, the last by itself.
        """
        self._kept += [*chain, profile]
        last = len(chain) - 1
        found = []
        for at, certificate in enumerate(chain):
            number = first + at
            issuer = chain[min(at + 1, last)]
            key = (id(certificate), id(issuer), number, id(profile))
            if key not in self._found:
                self._found[key] = self._fault(certificate, issuer, number, profile)
            found.append(self._found[key])
        return found

    def first_fault(self, chain: Sequence[x509.Certificate], profile: Profile) -> str:
        """The fault nearest to the leaf, or that the chain's length is wrong; "" for a good one."""
        if len(chain) not in profile.lengths:
            return f"{len(chain)} certificates"
        return next(filter(None, self.faults(chain, profile)), "")

    def _fault(
        self, certificate: x509.Certificate, issuer: x509.Certificate, number: int, profile: Profile
    ) -> str:
        place = profile.places[min(number, len(profile.places) - 1)]
        name = short_name(certificate)
        if place.names and name not in place.names:
            return f"{name} in place of {' or '.join(place.names)}"
        if number == 0 and is_ca(certificate):
            return f"{name} may sign certificates"
        if number > 0 and not is_ca(certificate, below=number - 1):
            return f"{name} may not sign certificates"
        if place.known_critical is not None:
            unknown = unknown_critical(certificate, *place.known_critical)
            if unknown is not None:
                return f"{name} has an unknown critical extension: {unknown.dotted_string}"
        wrong = place.rule(certificate)
        if wrong:
            return f"{name} {wrong}"
        if number == 0 and issuer is certificate:
            return f"{name} came without its issuer"
        if certificate.signature_algorithm_oid not in profile.algorithms:
            return f"{name} is signed with another algorithm"
        if not self._is_signed(certificate, issuer):
            return f"{name} is not signed by {short_name(issuer)}"
        return ""

    def _is_signed(self, certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
        key = (id(certificate), id(issuer))
        if key not in self._signed:
            algorithm = certificate.signature_algorithm_oid
            self._signed[key] = is_signed_by(certificate, issuer, algorithm)
        return self._signed[key]
