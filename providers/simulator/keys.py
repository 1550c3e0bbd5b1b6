"""Which keys work, and when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from providers.simulator.world import World


@dataclass(frozen=True, slots=True)
class KeyRule:
    """When a key works (None = no bound). Outside of it the vendor answers `status`."""

    begins_at: datetime | None = None
    ends_at: datetime | None = None
    status: int = 401

    def works(self, now: datetime) -> bool:
        return (self.begins_at is None or self.begins_at <= now) and (
            self.ends_at is None or now < self.ends_at
        )


def rules_of(world: World) -> dict[str, KeyRule]:
    rules: dict[str, KeyRule] = world.parts.setdefault("keys", {})
    return rules


def key_status(key: str, world: World) -> int:
    """0 = fine; else the status a vendor answers for this key now. Unknown keys are fine unless
    they look wrong on purpose."""
    if not key or key.startswith("wrong"):
        return 401
    # Kept by logins/state.py; what a login issued works until it expires or is revoked.
    logins = world.parts.get("logins")
    token = logins.tokens.get(key) if logins is not None else None
    if token is not None and not token.works(world.now()):
        return 401
    rules = rules_of(world)
    if not rules:
        return 0
    rule = rules.get(key)
    return 0 if rule is None or rule.works(world.now()) else rule.status
