"""AWS access keys that a world knows: a signature proves that the caller has the secret half."""

from __future__ import annotations

from typing import Final

from providers.simulator.world import World

# What a fresh world knows. The secret opens nothing but the simulation.
ACCESS_KEY: Final = "AKIASIMULATED0000001"
SECRET_KEY: Final = "simulated-secret-key"  # noqa: S105


def secrets_of(world: World) -> dict[str, str]:
    """Secret keys by access key: change it freely."""
    known: dict[str, str] = world.parts.setdefault("aws_secrets", {ACCESS_KEY: SECRET_KEY})
    return known
