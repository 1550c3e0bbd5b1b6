"""Requests that name uploaded files: they go where those are, and no file is another tenant's."""

from __future__ import annotations

from functools import partial

import msgspec

from controlplane.kit.database_threads import database_threads
from controlplane.kit.errors import GatewayError
from controlplane.proxy.choosing import CannotServe
from controlplane.proxy.errors import TooManyItems
from controlplane.proxy.exchange import Exchange
from controlplane.proxy.state import GatewayState
from providers.files import services
from providers.files.named import MOST_NAMED, may_name, named_in
from providers.files.services import Bound
from providers.routing.plan import Candidate
from providers.routing.table import Target
from tenants.keys.snapshot import KeyRecord


async def kept_together(
    exchange: Exchange, caller: KeyRecord, targets: tuple[Target, ...], state: GatewayState
) -> tuple[Target, ...]:
    """Those of the targets that can see the files which the body names, each with the credential
    that they belong to. Sets the plan anew. Raises VendorObjectNotFound and CannotServe."""
    if not may_name(exchange.body):
        return targets
    try:
        mine = await known(caller, named_in(exchange.body))
        if not mine:
            return targets
        return _narrowed(exchange, targets, mine)
    except GatewayError:
        state.finished(exchange)
        raise


async def known(caller: KeyRecord, file_ids: set[str]) -> list[Bound]:
    """The tenant's own of these. Raises VendorObjectNotFound for one of another tenant's."""
    if not file_ids:
        return []
    if len(file_ids) > MOST_NAMED:
        raise TooManyItems(f"A request may name at most {MOST_NAMED} files.", param="file_id")
    return await database_threads.run(
        partial(services.known, tenant_id=caller.tenant_id, file_ids=file_ids)
    )


def _narrowed(
    exchange: Exchange, targets: tuple[Target, ...], mine: list[Bound]
) -> tuple[Target, ...]:
    plan = exchange.decision.plan
    assert plan is not None, "targets are chosen by a plan"
    places = {(one.provider_id, one.credential_id) for one in mine}
    wanted = {id(target) for target in targets}
    candidates: list[Candidate] = []
    for candidate in plan.candidates:
        endpoint = candidate.target.endpoint
        refs = tuple(
            ref for ref in endpoint.credentials if places == {(endpoint.provider_id, ref.id)}
        )
        is_open = endpoint.auth.scheme == "none" and places == {(endpoint.provider_id, None)}
        if id(candidate.target) in wanted and (refs or is_open):
            candidates.append(Candidate(candidate.target, refs))
    if not candidates:
        where = ", ".join(sorted({one.provider_slug for one in mine}))
        raise CannotServe(
            f"The files that this request names are at {where[:200]!r}, with the credential that "
            f"took them, and {(exchange.model or '')[:200]!r} cannot be asked by it. Upload them "
            "where the model is: /v1/files?model=… does.",
            param="file_id",
        )
    exchange.decision.plan = msgspec.structs.replace(plan, candidates=tuple(candidates))
    return tuple(candidate.target for candidate in candidates)
