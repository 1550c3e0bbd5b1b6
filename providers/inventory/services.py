"""The refresh as a job or a command calls it: with the network behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from providers.catalog import refresh
from providers.catalog.models import Provider
from providers.catalog.refresh import Facts, Refreshed
from providers.inventory.ask import facts_from, models_of


def refresh_registered(
    *,
    facts_source: str = "",
    with_listings: bool = True,
    slugs: Sequence[str] = (),
    write: bool = True,
    on_done: Callable[[Refreshed], None] | None = None,
) -> list[Refreshed]:
    """Every enabled registration (or those of `slugs`) against `facts_source`, the address or
    path of a models.dev-shaped file, and against its own live listing. `write=False` only looks.

    Raises what the facts file raises, before anything is written: ProviderError,
    UnreadableListing, OSError. A listing that fails stands in its Refreshed.problem. The caller
    says who acts (tenants.audit.actor.acting_as).
    """
    facts = facts_from(facts_source) if facts_source else None
    return refresh.refresh_registered(
        listing=models_of if with_listings else None,
        facts=facts,
        slugs=slugs,
        write=write,
        on_done=on_done,
    )


def refresh_provider(
    provider: Provider, *, facts: Facts | None = None, write: bool = True
) -> Refreshed:
    """One registration against its own live listing and `facts`, in its scope; what failed stands
    in `problem`."""
    return refresh.refresh_one(provider, listing=models_of, facts=facts, write=write)
