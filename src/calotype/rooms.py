"""Rooms: what a store is made of, and how its verbs are given what they need."""

from __future__ import annotations

from dataclasses import dataclass

from calotype.accesses import Accesses
from calotype.catalog import Catalog
from calotype.catalog.columns import Hosts
from calotype.catalog.listing import Lister
from calotype.mounting import Mounts
from calotype.putting import Putter
from calotype.references import Referrer
from calotype.signing import Signer
from calotype.staging import Limits
from calotype.trend import Trend
from calotype.uploading import Uploader


@dataclass(frozen=True, slots=True)
class Rooms:
    """What a store is made of; shared by all its scopes."""

    catalog: Catalog
    mounts: Mounts
    hosts: Hosts
    limits: Limits
    grace: int
    public_url: str | None
    accesses: Accesses
    trend: Trend

    def putter(self, scope: str) -> Putter:
        """Puts into a scope."""
        return Putter(self.catalog, self.mounts, scope, self.hosts)

    def referrer(self, scope: str) -> Referrer:
        """Attaches, releases and restores in a scope."""
        return Referrer(self.catalog, scope, self.hosts, self.grace)

    def uploader(self, scope: str) -> Uploader:
        """Direct uploads into a scope."""
        return Uploader(self.putter(scope), self.referrer(scope), self.limits)

    def lister(self, scope: str) -> Lister:
        """Lists what is in a scope."""
        return Lister(self.catalog, scope, self.hosts)

    def signer(self) -> Signer:
        """Signs and verifies URLs."""
        return Signer(self.catalog, self.mounts, self.public_url)
