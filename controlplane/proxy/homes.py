"""At which provider a file is put, and where one is that was put there before."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import parse_qs

import msgspec

from controlplane.proxy.errors import EndpointNotOffered, UnknownModel
from controlplane.proxy.exchange import Exchange
from controlplane.proxy.state import GatewayState
from providers.credentials.pick import applied, for_member
from providers.files.batch_file import Work
from providers.files.errors import VendorObjectUnreachable
from providers.files.services import Bound, Kind, not_found
from providers.protocols import passthrough
from providers.routing.plan import nearest_names
from providers.routing.resolve import resolve
from providers.routing.table import CredentialRef, RouteTable, Target
from tenants.keys.snapshot import KeyRecord

PROVIDER_HEADER = b"x-route-provider"


class Home(msgspec.Struct, frozen=True):
    """A registration that keeps files, by one of its models, and the credential that asks it."""

    target: Target
    credential: CredentialRef | None


def home_for(
    exchange: Exchange,
    caller: KeyRecord,
    table: RouteTable,
    state: GatewayState,
    work: list[Work],
) -> tuple[Home, dict[str, str]]:
    """Where a new file goes, with the vendor's names of the models that it asks. The caller says it
    by header or query, else the models of the file do, else there is only one. Raises UnknownModel
    and EndpointNotOffered."""
    query = parse_qs(exchange.query.decode("latin-1"))
    asked_provider = exchange.header(PROVIDER_HEADER) or query.get("provider", [""])[-1]
    asked_model = query.get("model", [""])[-1]
    names = [one.asked for one in work]
    found = _shared([_serving(name, caller, table) for name in names or [asked_model] if name])
    if not found and not names and not asked_model:
        found = _all_homes(caller, table)
    if names:
        found = {id_: target for id_, target in found.items() if target.endpoint.has_batches}
    if asked_provider:
        found = {id_: each for id_, each in found.items() if each.endpoint.slug == asked_provider}
    if not found:
        raise _none(caller, table, names, asked_provider)
    if len(found) > 1 and not (names or asked_model):
        raise EndpointNotOffered(
            "Several providers here keep files. Name one in the header X-Route-Provider or in "
            f"?provider=…: {_slugs(found.values())}. ?model=… chooses one that serves that model.",
            param="provider",
        )
    target = next(iter(found.values()))
    credential = _credential(target, state)
    seen = applied(target, credential)
    served: dict[str, str] = {}
    for name in names:
        own = _serving(name, caller, table)[target.endpoint.provider_id]
        served[name] = passthrough.vendor_name(applied(own, credential).spec)
    return Home(seen, credential), served


def home_of(bound: Bound, caller: KeyRecord, table: RouteTable) -> Home:
    """Where it is, by the credential that made it and no other. Raises VendorObjectNotFound where
    that is somebody else's own login, VendorObjectUnreachable where it is gone."""
    target = next(
        (
            each
            for targets in table.targets.values()
            for each in targets
            if each.endpoint.provider_id == bound.provider_id and _keeps_files(each)
        ),
        None,
    )
    if target is not None and target.endpoint.auth.scheme == "none":
        return Home(target, None)
    refs = target.endpoint.credentials if target is not None else ()
    credential = next((ref for ref in refs if ref.id == bound.credential_id), None)
    if target is None or credential is None:
        raise VendorObjectUnreachable(
            "The credential that made this was removed, or does not work now. Ask whoever manages "
            "your providers."
        )
    if not for_member((_with(target, (credential,)),), caller.member_id):
        raise not_found(Kind(bound.kind), bound.upstream_id)
    return Home(applied(target, credential), credential)


def model_at(home: Home, name: str, caller: KeyRecord, table: RouteTable) -> Target:
    """The target that serves this model at this provider. Raises UnknownModel."""
    found = _serving(name, caller, table).get(home.target.endpoint.provider_id)
    if found is None:
        raise _unknown(name, caller, table)
    return applied(found, home.credential)


def _keeps_files(target: Target) -> bool:
    return target.endpoint.has_files and passthrough.is_served("files", target.spec.protocol)


def _usable(targets: Iterable[Target]) -> dict[str, Target]:
    """By registration, the first of each that keeps files and can be asked."""
    found: dict[str, Target] = {}
    for target in targets:
        endpoint = target.endpoint
        if endpoint.provider_id in found or not _keeps_files(target):
            continue
        # AWS signs bodies, and these are not in memory.
        refs = tuple(ref for ref in endpoint.credentials if ref.kind != "aws")
        if refs or endpoint.auth.scheme == "none":
            found[endpoint.provider_id] = _with(target, refs)
    return found


def _with(target: Target, refs: tuple[CredentialRef, ...]) -> Target:
    endpoint = msgspec.structs.replace(target.endpoint, credentials=refs)
    return msgspec.structs.replace(target, endpoint=endpoint)


def _serving(name: str, caller: KeyRecord, table: RouteTable) -> dict[str, Target]:
    targets = for_member(resolve(name, table, caller.allows_model), caller.member_id)
    if not targets:
        raise _unknown(name, caller, table)
    return _usable(targets)


def _unknown(name: str, caller: KeyRecord, table: RouteTable) -> UnknownModel:
    near = nearest_names(name, table, caller.allows_model)
    hint = f" Did you mean {', '.join(near)}?" if near else ""
    return UnknownModel(
        f"The model {name[:200]!r} does not exist or this key may not use it.{hint}", param="model"
    )


def _shared(each: list[dict[str, Target]]) -> dict[str, Target]:
    """The registrations that are in all of them, in the order of the first."""
    if not each:
        return {}
    first, *others = each
    return {id_: one for id_, one in first.items() if all(id_ in other for other in others)}


def _all_homes(caller: KeyRecord, table: RouteTable) -> dict[str, Target]:
    allowed = (
        target
        for name, targets in table.targets.items()
        if caller.allows_model(name)
        for target in for_member(targets, caller.member_id)
    )
    return _usable(allowed)


def _none(
    caller: KeyRecord, table: RouteTable, names: list[str], asked_provider: str
) -> EndpointNotOffered:
    homes = _all_homes(caller, table)
    able = [each for each in homes.values() if each.endpoint.has_batches or not names]
    what = "answers batches" if names else "keeps files"
    if not able:
        return EndpointNotOffered(f"No provider that you may use {what}.")
    who = (
        f"{asked_provider[:80]!r} is none of them" if asked_provider else "none serves these models"
    )
    if names:
        who += f" ({', '.join(names)[:300]})"
    return EndpointNotOffered(
        f"Of your providers {_slugs(able)} {what}, and {who}.",
        param="provider" if asked_provider else "model",
    )


def _slugs(targets: Iterable[Target]) -> str:
    return ", ".join(sorted({target.endpoint.slug for target in targets}))


def _credential(target: Target, state: GatewayState) -> CredentialRef | None:
    """The first that does not rest, else the first."""
    endpoint, standing = target.endpoint, state.routing.standing()
    for ref in endpoint.credentials:
        place = (endpoint.provider_id, ref.id, target.spec.id)
        if standing.cooldowns.resting(*place, standing.now) is None:
            return ref
    return endpoint.credentials[0] if endpoint.credentials else None
