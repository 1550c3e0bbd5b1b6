"""Targets and what is known of them, in a line each."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from providers.protocols.canonical import ModelSpec
from providers.routing.cooldown import Cooldowns
from providers.routing.loads import Loads
from providers.routing.needs import Needs
from providers.routing.plan import Plan, Standing, plan
from providers.routing.quota import weight_of
from providers.routing.strategies import Turns
from providers.routing.table import (
    CredentialRef,
    Endpoint,
    ErrorRule,
    RouteTable,
    RoutingRules,
    Target,
)

NOW = 1_000_000.0
MODEL = "m"


def target(
    slug: str,
    *,
    model: str = MODEL,
    priority: int = 0,
    weight: int = 1,
    credentials: int | Sequence[CredentialRef] = 1,
    protocol: str = "openai-completions",
    window: int = 0,
    most_output: int = 0,
    cooldown_seconds: float = 30.0,
    rules: tuple[ErrorRule, ...] = (),
    most_bytes: int = 0,
    most_images: int = 0,
    **facts: Any,
) -> Target:
    if isinstance(credentials, int):
        credentials = [CredentialRef(id=f"{slug}-{number}") for number in range(credentials)]
    return Target(
        name=model,
        endpoint=Endpoint(
            provider_id=slug,
            slug=slug,
            base_url="https://vendor.test",
            priority=priority,
            weight=weight,
            cooldown_seconds=cooldown_seconds,
            credentials=tuple(credentials),
            has_weighted_credentials=len({weight_of(ref) for ref in credentials}) > 1,
            rules=rules,
            max_request_bytes=most_bytes,
            max_images_per_request=most_images,
        ),
        spec=ModelSpec(
            id=model, protocol=protocol, context_window=window, max_output_tokens=most_output
        ),
        **facts,
    )


def table(*targets: Target, name: str = MODEL, **policy: Any) -> RouteTable:
    ordered = sorted(targets, key=lambda each: (each.rank, -each.endpoint.priority))
    return RouteTable(tenant_id="t", targets={name: tuple(ordered)}, policy=RoutingRules(**policy))


def standing(now: float = NOW, *, seed: int = 7) -> Standing:
    return Standing(
        cooldowns=Cooldowns(),
        turns=Turns(),
        loads=Loads(lambda: now),
        draw=random.Random(seed).randrange,
        now=now,
    )


def planned(routes: RouteTable, known: Standing, needs: Needs = Needs(), **more: Any) -> Plan:  # noqa: B008  (frozen)
    return plan(MODEL, routes, lambda _: True, known, needs=needs, **more)


def slugs(made: Plan) -> list[str]:
    return [candidate.target.endpoint.slug for candidate in made.candidates]
