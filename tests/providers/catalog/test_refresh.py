"""Refreshing writes overrides beside registrations, never over a person's own rows, and twice
is once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from providers.catalog import refresh
from providers.catalog.listings import FoundModel, UnreadableListing
from providers.catalog.models import Provider, ProviderModel
from providers.catalog.refresh import Refreshed
from providers.catalog.registrations import effective_of
from providers.catalog.services import register
from providers.catalog.sync import sync_registrations
from providers.errors import UpstreamUnreachable
from tenants import scope
from tenants.audit.actor import Kind, acting_as
from tenants.audit.models import AuditEvent
from tenants.revisions.services import current

pytestmark = [pytest.mark.django_db, pytest.mark.storage]

NEW_LIMIT = FoundModel(id="gpt-4o", context_window=256_000)
STRANGER = FoundModel(
    id="gpt-99", name="GPT-99", context_window=9_000, price={"input": "1", "output": "2"}
)


@pytest.fixture(autouse=True)
def _platform() -> Iterator[None]:
    with acting_as(Kind.COMMAND, None, "tests"), scope.platform("tests"):
        yield


@pytest.fixture
def provider() -> Provider:
    return register(slug="openai", catalog_id="openai")


def run(
    *listed: FoundModel, facts: tuple[FoundModel, ...] | None = None, **values: Any
) -> Refreshed:
    (done,) = refresh.refresh_registered(
        listing=(lambda _: listed) if listed else None,
        facts=None if facts is None else {"openai": facts},
        **values,
    )
    return done


def rows() -> dict[str, tuple[str, bool, dict[str, Any]]]:
    return {
        row.upstream_id: (row.origin, row.is_enabled, row.facts)
        for row in ProviderModel.objects.all()
    }


def test_a_difference_becomes_an_override(provider: Provider) -> None:
    done = run(NEW_LIMIT)
    assert done.written == 1
    assert [change.field for change in done.difference.changed] == ["context_window"]
    assert rows() == {"gpt-4o": ("listed", True, {"context_window": 256_000})}
    models = {model.spec.id: model.spec for model in effective_of(provider).models}
    assert models["gpt-4o"].context_window == 256_000
    assert models["gpt-4o"].max_output_tokens == 16_384


def test_twice_is_once(provider: Provider) -> None:
    run(NEW_LIMIT, STRANGER, facts=(FoundModel(id="gpt-4o", reasoning=True),))
    before, revision = rows(), current()["registrations"]
    events = AuditEvent.objects.count()
    again = run(NEW_LIMIT, STRANGER, facts=(FoundModel(id="gpt-4o", reasoning=True),))
    assert again.written == 0
    assert again.difference.changed == ()
    assert rows() == before
    assert current()["registrations"] == revision
    assert AuditEvent.objects.count() == events


def test_looking_writes_nothing(provider: Provider) -> None:
    done = run(NEW_LIMIT, STRANGER, write=False)
    assert (len(done.difference.changed), len(done.difference.added)) == (1, 1)
    assert done.written == 0
    assert rows() == {}


def test_what_equals_the_catalog_needs_no_row(provider: Provider) -> None:
    run(NEW_LIMIT)
    done = run(FoundModel(id="gpt-4o", context_window=128_000))
    assert rows() == {}
    assert done.written == 1


def test_a_stranger_is_known_but_not_offered(provider: Provider) -> None:
    run(STRANGER)
    facts = {"name": "GPT-99", "context_window": 9_000, "price": {"input": "1", "output": "2"}}
    assert rows() == {"gpt-99": ("listed", False, facts)}
    assert "gpt-99" not in {model.spec.id for model in effective_of(provider).models}


def test_a_stranger_is_offered_where_live_names_may_pass(provider: Provider) -> None:
    Provider.objects.update(passes_unknown_models=True)
    run(STRANGER)
    provider.refresh_from_db()
    found = {model.spec.id: model for model in effective_of(provider).models}["gpt-99"]
    assert found.spec.context_window == 9_000
    assert found.price is not None
    assert found.price.output == "2"


def test_a_stranger_that_left_is_taken_out(provider: Provider) -> None:
    run(STRANGER, NEW_LIMIT)
    run(NEW_LIMIT)
    assert set(rows()) == {"gpt-4o"}


def test_a_persons_own_row_is_kept(provider: Provider) -> None:
    ProviderModel.objects.create(provider=provider, upstream_id="gpt-4o", context_window=1_000)
    done = run(NEW_LIMIT)
    assert done.kept == ("gpt-4o",)
    assert rows() == {"gpt-4o": ("manual", True, {})}
    models = {model.spec.id: model.spec for model in effective_of(provider).models}
    assert models["gpt-4o"].context_window == 1_000


def test_an_alias_of_a_person_is_left_alone(provider: Provider) -> None:
    ProviderModel.objects.create(provider=provider, upstream_id="gpt-4o", alias="fast")
    run(NEW_LIMIT)
    assert ProviderModel.objects.filter(alias="fast", origin="manual", facts={}).exists()


def test_the_listing_knows_better_than_the_facts(provider: Provider) -> None:
    facts = (
        FoundModel(id="gpt-4o", context_window=1, reasoning=True),
        FoundModel(id="gpt-4.1", max_output_tokens=5),
        FoundModel(id="unheard-of", context_window=5),
    )
    run(NEW_LIMIT, facts=facts)
    assert rows() == {
        "gpt-4o": ("listed", True, {"context_window": 256_000, "reasoning": True}),
        # Known here, though not listed: the facts may still speak of it.
        "gpt-4.1": ("facts", True, {"max_output_tokens": 5}),
    }


def test_facts_alone(provider: Provider) -> None:
    run(facts=(NEW_LIMIT, STRANGER))
    assert rows()["gpt-4o"] == ("facts", True, {"context_window": 256_000})
    assert rows()["gpt-99"][:2] == ("facts", False)


def test_what_one_source_said_stays_while_it_is_silent(provider: Provider) -> None:
    run(facts=(FoundModel(id="gpt-4o", reasoning=True),))
    run(NEW_LIMIT)
    assert rows()["gpt-4o"][2] == {"reasoning": True, "context_window": 256_000}


def test_an_odd_figure_spoils_nothing_else(provider: Provider) -> None:
    odd = FoundModel(id="gpt-4o", context_window=256_000, modalities=("text", "smell"))
    run(odd)
    assert rows() == {"gpt-4o": ("listed", True, {"context_window": 256_000})}


@pytest.mark.parametrize(
    "error", [UpstreamUnreachable("The upstream refused the connection."), UnreadableListing("No.")]
)
def test_one_that_fails_is_told_and_stops_no_other(provider: Provider, error: Exception) -> None:
    register(slug="groq", catalog_id="groq")

    def listing(asked: Provider) -> tuple[FoundModel, ...]:
        if asked.slug == "groq":
            raise error
        return (NEW_LIMIT,)

    seen: list[str] = []
    done = refresh.refresh_registered(
        listing=listing, on_done=lambda one: seen.append(one.provider)
    )
    assert [(one.provider, one.problem) for one in done] == [("groq", str(error)), ("openai", "")]
    assert seen == ["groq", "openai"]
    assert set(rows()) == {"gpt-4o"}


def test_facts_come_although_the_listing_fails(provider: Provider) -> None:
    def listing(_: Provider) -> tuple[FoundModel, ...]:
        raise UpstreamUnreachable("away")

    (done,) = refresh.refresh_registered(listing=listing, facts={"openai": (NEW_LIMIT,)})
    assert (done.problem, done.sources, done.written) == ("away", ("facts",), 1)


def test_only_what_is_switched_on_and_asked_for(provider: Provider) -> None:
    register(slug="groq", catalog_id="groq", is_enabled=False)
    register(slug="xai", catalog_id="xai")
    done = refresh.refresh_registered(listing=lambda _: (), slugs=["xai", "groq"])
    assert [one.provider for one in done] == ["xai"]


def test_it_is_recorded_in_the_owners_chain(provider: Provider) -> None:
    run(NEW_LIMIT)
    event = AuditEvent.objects.get(action="provider.models_refreshed")
    assert event.target_id == str(provider.pk)
    assert "gpt-4o: context_window" in event.after_json


def test_facts_find_a_provider_by_its_other_names() -> None:
    provider = register(slug="my-vercel", catalog_id="vercel-ai-gateway")
    said = (FoundModel(id="zai/glm-5.3"),)
    assert refresh.facts_for(provider, {"vercel": said, "openai": ()}) is said
    assert refresh.facts_for(provider, {"openai": said}) is None


# --- sync ---------------------------------------------------------------------------------


def test_sync_follows_a_renamed_provider_and_its_kind(provider: Provider) -> None:
    Provider.objects.filter(pk=provider.pk).update(catalog_id="openai-api", kind="custom")
    (entry,) = sync_registrations()
    assert len(entry.done) == 2
    provider.refresh_from_db()
    assert (provider.catalog_id, provider.kind) == ("openai", "direct")
    assert AuditEvent.objects.filter(action="provider.synced").count() == 1
    assert sync_registrations() == []


def test_sync_takes_out_overrides_that_say_nothing_any_more(provider: Provider) -> None:
    for name, origin in (("gpt-4o", "listed"), ("gpt-4.1", "manual")):
        ProviderModel.objects.create(
            provider=provider,
            upstream_id=name,
            origin=origin,
            facts={"context_window": 128_000 if name == "gpt-4o" else 1_047_576},
        )
    sync_registrations()
    assert set(rows()) == {"gpt-4.1"}


def test_sync_names_what_cannot_work_any_more(provider: Provider) -> None:
    Provider.objects.filter(pk=provider.pk).update(catalog_id="was-removed")
    (entry,) = sync_registrations()
    assert "was-removed" in entry.problem
    assert entry.done == ()
