"""What batches cost: looked at until they are done, then charged from the answers they left.

A batch that nobody can be asked about any more is charged as unknown, with our estimate beside it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Final

import msgspec
from django.conf import settings

from controlplane.kit import json
from controlplane.kit.errors import GatewayError
from controlplane.kit.json import JSONDict
from providers.catalog.destinations import own_simulator
from providers.catalog.models import Provider
from providers.catalog.schema import Price
from providers.credentials.cache import CredentialCache
from providers.credentials.pick import applied
from providers.errors import UpstreamBroken
from providers.files.batch_file import Bill, Bills, Lines, Work, read
from providers.files.models import VendorObject
from providers.files.services import is_id, seen
from providers.oauth.keeper import LoginKeeper
from providers.protocols import passthrough
from providers.routing.loader import load_table
from providers.routing.table import CredentialRef, RouteTable, Target
from providers.signing.outbound import Outbound
from providers.upstream.client import UpstreamClient, UpstreamResponse
from providers.upstream.pool import ClientPool
from tenants import scope
from tenants.quotas.price_lists import in_force
from tenants.quotas.snapshot import LimitSnapshot
from tenants.usage.afterwards import Charge, charge_afterwards
from tenants.usage.outcome import Held, Outcome, TargetFacts

log = logging.getLogger(__name__)

BATCH_OF_BATCHES: Final = 20
# The first looks are a minute apart, later ones ten: a batch may take a day.
_SHORTEST: Final = timedelta(minutes=1)
_LONGEST: Final = timedelta(minutes=10)
# Nobody can be asked any more, or never says that it is over.
GIVEN_UP_AFTER: Final = timedelta(days=7)
_ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})
_MOST_DESCRIPTION: Final = 4 * 1024 * 1024
_CLIENT_PROTOCOL: Final = "openai-completions"
OPERATION: Final = "batches"


class _Place(msgspec.Struct, frozen=True):
    provider: Provider
    target: Target
    credential: CredentialRef | None
    table: RouteTable


def settle_due(*, now: datetime) -> int:
    """Looks at the batches whose time it is; how many. A batch of them: call it until 0."""
    with scope.platform("batches whose cost nobody knows yet"):
        due = list(VendorObject.objects.unsettled(now=now).order_by("look_at")[:BATCH_OF_BATCHES])
    for row in due:
        try:
            _look(row, now)
        except GatewayError as error:
            log.warning("Batch %s could not be looked at: %s.", row.pk, error.fault().code)
            _later(row, now)
    return len(due)


def _look(row: VendorObject, now: datetime) -> None:
    is_too_late = now - row.created_at > GIVEN_UP_AFTER
    work = read(row.work)
    place = _place_of(row)
    if place is None or is_too_late:
        _charge_unknown(row, work, now)
        return
    agreed = _Agreed(row)
    shown, bills = asyncio.run(_ask(place, row.upstream_id, work, agreed))
    seen(tenant_id=row.tenant_id, row_id=row.pk, shown=shown, now=now)
    if bills is None:
        _later(row, now)
        return
    _charge(row, work, bills, agreed, now)


def _later(row: VendorObject, now: datetime) -> None:
    if now - row.created_at > GIVEN_UP_AFTER:
        _charge_unknown(row, read(row.work), now)
        return
    pace = min(_LONGEST, _SHORTEST * (1 + row.looks))
    with scope.tenant(row.tenant_id):
        VendorObject.objects.filter(pk=row.pk).update(look_at=now + pace, looks=row.looks + 1)


def _settled(row: VendorObject) -> None:
    with scope.tenant(row.tenant_id):
        VendorObject.objects.filter(pk=row.pk).update(look_at=None)


# --- asking the vendor ----------------------------------------------------------------------------


def _place_of(row: VendorObject) -> _Place | None:
    """Where the tenant's requests would find it. None = the registration or the credential that
    made it is gone, or not the tenant's any more."""
    if row.provider_id is None:
        return None
    table = load_table(row.tenant_id)
    with scope.platform("registration of a batch"):
        provider = Provider.objects.filter(pk=row.provider_id).first()
    credential_id = str(row.credential_id) if row.credential_id else None
    for target in _targets(table, str(row.provider_id)):
        endpoint = target.endpoint
        if not endpoint.has_batches or not passthrough.is_served("batches", target.spec.protocol):
            continue
        refs = [ref for ref in endpoint.credentials if ref.id == credential_id]
        if provider is not None and (refs or endpoint.auth.scheme == "none"):
            credential = refs[0] if refs else None
            return _Place(provider, applied(target, credential), credential, table)
    return None


def _targets(table: RouteTable, provider_id: str) -> list[Target]:
    return [
        target
        for targets in table.targets.values()
        for target in targets
        if target.endpoint.provider_id == provider_id
    ]


async def _ask(
    place: _Place, upstream_id: str, work: list[Work], agreed: _Agreed
) -> tuple[JSONDict, list[Bill] | None]:
    """The batch as it is, and its bills where it is over. Raises ProviderError."""
    clients = ClientPool(
        allowed=settings.UPSTREAM_ALLOWED_NETWORKS,
        allowed_for_tenants=settings.UPSTREAM_ALLOWED_NETWORKS_FOR_TENANTS,
    )
    if opened := own_simulator(place.provider):
        clients.allow_for_platform(opened)
    endpoint = place.target.endpoint
    client = clients.of(endpoint.owner, endpoint.ca_certificate, endpoint.proxy_url)
    credentials = CredentialCache(LoginKeeper())
    try:
        answer = await _get(client, credentials, place, f"/batches/{upstream_id}")
        try:
            shown = json.loads_dict(await answer.read(_MOST_DESCRIPTION))
        except json.InvalidJSON:
            raise UpstreamBroken("The provider described a batch in no whole JSON.") from None
        finally:
            answer.close()
        if shown.get("status") not in _ENDED:
            return shown, None
        bills = Bills(work, lambda served: _price_of(place, served), agreed.price_of)
        if is_id(shown.get("output_file_id")):
            path = f"/files/{shown['output_file_id']}/content"
            async for line in _lines(await _get(client, credentials, place, path)):
                bills.see(line)
        return shown, bills.all()
    finally:
        credentials.close()
        await clients.close()


async def _get(
    client: UpstreamClient, credentials: CredentialCache, place: _Place, path: str
) -> UpstreamResponse:
    call = passthrough.beside(place.target.spec, path)
    endpoint = place.target.endpoint
    url = endpoint.base_url + call.path
    if call.query:
        url += "?" + "&".join(f"{name}={value}" for name, value in call.query.items())
    headers = {"Accept": "*/*", **endpoint.headers}
    outbound = Outbound("GET", url, headers, b"")
    shown = await credentials.headers(endpoint, place.credential, outbound)
    response = await client.send(
        "GET", url, headers={**headers, **shown}, timeouts=endpoint.timeouts
    )
    if response.status != 200:
        response.close()
        raise UpstreamBroken(f"The provider answered {response.status} when asked for a batch.")
    return response


async def _lines(response: UpstreamResponse) -> AsyncIterator[bytes]:
    lines = Lines()
    try:
        async for piece in response.chunks():
            for line in lines.feed(piece):
                yield line
        for line in lines.close():
            yield line
    finally:
        response.close()


def _price_of(place: _Place, served: str) -> Price | None:
    for target in _targets(place.table, place.target.endpoint.provider_id):
        if served in (target.spec.id, passthrough.vendor_name(target.spec)):
            return target.price
    return None


# --- charging -------------------------------------------------------------------------------------


class _Agreed:
    """What the tenant's price list, and the platform's behind it, say of the moment at which the
    batch was made."""

    def __init__(self, row: VendorObject) -> None:
        limits = LimitSnapshot()
        limits.reload()
        self._listed = limits.policy(row.tenant_id).price_list
        self._at = row.created_at.timestamp()

    def price_of(self, asked: str) -> Price | None:
        listed = in_force(self._listed, asked, self._at)
        return None if listed is None else msgspec.json.decode(listed.price, type=Price)

    def version_of(self, asked: str) -> str:
        """Behind a slash, as the ledger names it."""
        listed = in_force(self._listed, asked, self._at)
        return "" if listed is None else f"/{listed.version}"


def _charge(
    row: VendorObject, work: list[Work], bills: list[Bill], agreed: _Agreed, now: datetime
) -> None:
    charges = []
    for bill in bills:
        usage = bill.usage
        outcome = Outcome(
            input=usage.input,
            cache_read=usage.cache_read,
            cache_write=usage.cache_write,
            output=usage.output,
            reasoning=usage.reasoning,
            audio_input=usage.audio_input,
            audio_output=usage.audio_output,
            image_input=usage.image_input,
            image_output=usage.image_output,
            cost_nanos=bill.nanos,
            charge_nanos=bill.charge_nanos,
            price_basis="unpriced" if bill.nanos is None else "price",
        )
        facts = _facts(row, bill.served, bill.price_version + agreed.version_of(bill.asked))
        charges.append(Charge(facts, outcome))
    if not charges:
        # It failed, or was cancelled before anything was answered.
        outcome = Outcome(input=0, output=0, cost_nanos=0)
        charges = [Charge(_facts(row, work[0].served if work else ""), outcome)]
    _write(row, work, charges, now)


def _charge_unknown(row: VendorObject, work: list[Work], now: datetime) -> None:
    log.warning("Batch %s is charged as unknown: nobody can be asked about it.", row.pk)
    outcome = Outcome(error_code="batch_lost")
    _write(row, work, [Charge(_facts(row, work[0].served if work else ""), outcome)], now)


def _facts(row: VendorObject, served: str, price_version: str = "") -> TargetFacts:
    return TargetFacts(
        provider=row.provider_slug,
        model=served,
        credential_id=str(row.credential_id or ""),
        upstream_protocol=_CLIENT_PROTOCOL,
        price_version=price_version,
    )


def _write(row: VendorObject, work: list[Work], charges: list[Charge], now: datetime) -> None:
    held = Held(
        request_id=f"batch-{row.pk.hex}",
        tenant_id=row.tenant_id,
        taken_at=now.timestamp(),
        model=work[0].asked if work else "",
        key_id=row.key_id,
        member_id=row.member_id,
        operation=OPERATION,
        client_protocol=_CLIENT_PROTOCOL,
        trace_id=row.upstream_id[:64],
        expected_input=sum(one.input for one in work),
        expected_output=sum(one.output for one in work),
        expected_nanos=sum(one.nanos or 0 for one in work),
    )
    charge_afterwards(held, charges)
    _settled(row)
