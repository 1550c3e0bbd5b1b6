"""Every usable key in memory, by digest: what the hot path asks instead of the database."""

from __future__ import annotations

import hmac
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Final

from django.db.models import Q

from controlplane.kit import clock
from tenants import scope
from tenants.errors import InvalidKey, KeyForbidden, KeysUnavailable, TenantSuspended
from tenants.keys import peppers, rules
from tenants.keys.last_used import LastUsed
from tenants.keys.lookup import LIVE_LENGTH, digests
from tenants.keys.models import ApiKey
from tenants.members.models import Tenant

# How long keys are believed while nobody can confirm that none was revoked (bars K3, R7).
LONGEST_UNCONFIRMED_SECONDS: Final = 60.0

_REFUSED: Final = "This API key is not valid: it is unknown, revoked or expired."


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A usable key as its caller: who they are and what they may."""

    id: uuid.UUID
    tenant_id: uuid.UUID
    tenant_slug: str
    tenant_status: str
    scopes: frozenset[str]
    allowed_models: tuple[str, ...]
    allowed_networks: tuple[rules.Network, ...]
    expires_at: datetime | None
    label: str
    member_id: uuid.UUID | None
    public_id: str
    digest: bytes = field(repr=False)
    _models: re.Pattern[str] | None = field(repr=False, compare=False)
    # Its member works for the platform.
    is_staff: bool = False

    def allows_model(self, model: str) -> bool:
        return self._models is None or self._models.fullmatch(model) is not None

    def require_scope(self, name: str) -> None:
        if name not in self.scopes:
            raise KeyForbidden(f"This API key lacks the scope {name!r}: use one that has it.")

    def require_model(self, model: str) -> None:
        if not self.allows_model(model):
            raise KeyForbidden(f"This API key may not use the model {model[:200]!r}.")


class KeySnapshot:
    """Empty and refusing until the first `reload` and `confirm`; see tenants.revisions.watcher."""

    def __init__(
        self,
        *,
        longest_unconfirmed_seconds: float = LONGEST_UNCONFIRMED_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.last_used = LastUsed()
        self._longest_unconfirmed_seconds = longest_unconfirmed_seconds
        self._monotonic = monotonic
        self._reloading = threading.Lock()
        self._confirmed_at: float | None = None
        self._records: Mapping[bytes, KeyRecord] = MappingProxyType({})
        self._peppers: tuple[bytes, ...] = ()

    def __len__(self) -> int:
        return len(self._records)

    def reload(self) -> None:
        """One query; readers see the old keys or the new ones, never a mixture."""
        # One at a time: else a slow reading, begun earlier, would undo a younger one.
        with self._reloading:
            self._read()

    def _read(self) -> None:
        as_of = self._monotonic()
        ring = peppers.ring()
        records: dict[bytes, KeyRecord] = {}
        with scope.platform("snapshot of keys"):
            usable = ApiKey.objects.usable(now=clock.now())
            # A person who may not sign in may not call either, by a key that is theirs.
            working = usable.filter(Q(member=None) | Q(member__user__is_active=True))
            rows = working.values_list(
                "digest",
                "id",
                "tenant_id",
                "tenant__slug",
                "tenant__status",
                "scopes",
                "allowed_models",
                "allowed_networks",
                "expires_at",
                "label",
                "member_id",
                "public_id",
                "member__user__is_staff",
            )
            for stored, *facts in rows.iterator(chunk_size=2000):
                record = _record(bytes(stored), *facts)
                records[record.digest] = record
        self._peppers = ring
        self._records = MappingProxyType(records)
        self.confirm(as_of)

    def confirm(self, as_of: float) -> None:
        """At `as_of` (time.monotonic) the revisions said that nothing had moved."""
        self._confirmed_at = as_of
        # This is the watcher's thread, or the start's: never a request's, so it may write.
        self.last_used.flush_if_due(as_of)

    def find(self, token: str, address: str, now: datetime) -> KeyRecord:
        """The caller that this token names, if it may be used from `address`. No query.

        Raises InvalidKey, KeyForbidden (address), TenantSuspended, KeysUnavailable.
        """
        # No need to parse: a digest that is found proves every letter, checksum included.
        if len(token) != LIVE_LENGTH or not token.isascii():
            raise InvalidKey(_REFUSED)
        confirmed_at = self._confirmed_at
        if (
            confirmed_at is None
            or self._monotonic() - confirmed_at > self._longest_unconfirmed_seconds
        ):
            raise KeysUnavailable(
                "API keys cannot be checked at the moment: try again soon.",
                retry_after_seconds=5.0,
            )
        record = self._look_up(token)
        if record is None or (record.expires_at is not None and record.expires_at <= now):
            raise InvalidKey(_REFUSED)
        if record.allowed_networks and not _is_within(address, record.allowed_networks):
            raise KeyForbidden("This API key may not be used from this address.")
        if record.tenant_status != Tenant.Status.ACTIVE:
            raise TenantSuspended(
                f"The tenant of this API key is {record.tenant_status}: ask its operator."
            )
        self.last_used.note(record.id, now)
        return record

    def _look_up(self, token: str) -> KeyRecord | None:
        records = self._records
        found: KeyRecord | None = None
        # All digests are made and compared, whichever matches: time says nothing about the ring.
        for digest in digests(token, self._peppers):
            record = records.get(digest)
            if record is not None and hmac.compare_digest(record.digest, digest):
                found = record
        return found


def _is_within(address: str, networks: tuple[rules.Network, ...]) -> bool:
    parsed = rules.address(address)
    # An address nobody knows is in no network.
    return parsed is not None and any(parsed in network for network in networks)


def _record(
    digest: bytes,
    key_id: uuid.UUID,
    tenant_id: uuid.UUID,
    tenant_slug: str,
    tenant_status: str,
    scopes: list[str],
    allowed_models: list[str],
    allowed_networks: list[str],
    expires_at: datetime | None,
    label: str,
    member_id: uuid.UUID | None,
    public_id: str,
    is_staff: bool | None,
) -> KeyRecord:
    return KeyRecord(
        id=key_id,
        tenant_id=tenant_id,
        tenant_slug=tenant_slug,
        tenant_status=tenant_status,
        scopes=frozenset(scopes),
        allowed_models=tuple(allowed_models),
        allowed_networks=rules.networks(allowed_networks),
        expires_at=expires_at,
        label=label,
        member_id=member_id,
        public_id=public_id,
        digest=digest,
        _models=rules.model_patterns(allowed_models),
        is_staff=bool(is_staff),
    )
