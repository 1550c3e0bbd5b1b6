"""What is stored of a target's capabilities decides where requests go: the conformance run's own
requests, asked of a registration whose run said that it cannot do them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from controlplane.kit import json
from controlplane.kit.secret import Secret
from providers.catalog.model_services import add_model
from providers.catalog.models import Provider
from providers.catalog.services import change_registration, note_probe, register
from providers.credentials.services import add_credential
from providers.protocols import registry
from providers.protocols.canonical import ModelSpec
from providers.protocols.members import Members
from providers.protocols.quirks import Quirks
from providers.routing.loader import load_table
from providers.routing.needs import BITS, Needs, needs_of
from providers.routing.plan import Plan, plan
from providers.simulator.conformance.cases import Case, cases
from providers.simulator.conformance.run import Result, features
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.members.models import Tenant
from tests.providers.routing.made import standing

pytestmark = pytest.mark.django_db

MODEL: Final = "shared"
PROVEN: Final = [case for case in cases(MODEL) if case.feature]


@pytest.fixture
def homes(tenant: Tenant) -> Iterator[dict[str, Provider]]:
    """Two registrations that serve the same model, of which nothing is known."""
    with acting_as("command", None, "tests"), scope.platform("tests"):
        made = {}
        for slug in ("able", "unable"):
            made[slug] = register(
                slug=slug, protocol="openai-completions", base_url="https://a.example.com/v1"
            )
            add_credential(provider=made[slug], label="one", secret=Secret("sk-x"))
            add_model(provider=made[slug], upstream_id=MODEL)
        yield made


def needs_of_case(case: Case) -> Needs:
    """As the gateway reads them from the case's own request, in the dialect of chat completions."""
    spec = ModelSpec(
        id=MODEL,
        protocol="openai-completions",
        modalities=("text", "image"),
        reasoning=True,
        quirks=Quirks(supports_output_format=True),
    )
    call = registry.upstream(spec.protocol).encode_request(case.request, spec, request_id="x")
    return needs_of(Members(json.dumps(call.body)), is_streaming=case.request.stream)


def planned(tenant: Tenant, needs: Needs) -> Plan:
    return plan(MODEL, load_table(tenant.pk), lambda _: True, standing(), needs=needs)


def outcome(made: Plan) -> tuple[list[str], dict[str, str]]:
    return (
        sorted(target.endpoint.slug for target in made.targets),
        {entry.target.endpoint.slug: entry.code for entry in made.rejected},
    )


def run_of(case: Case, verdict: Any) -> list[Result]:
    return [
        Result(other.name, other.feature, verdict if other is case else "pass", "", 1.0)
        for other in PROVEN
    ]


@pytest.mark.parametrize("verdict", ["refused", "fail"])
@pytest.mark.parametrize("case", PROVEN, ids=lambda case: case.name)
def test_what_a_conformance_run_stored_is_obeyed(
    tenant: Tenant, homes: dict[str, Provider], case: Case, verdict: str
) -> None:
    needs = needs_of_case(case)
    assert outcome(planned(tenant, needs)) == (["able", "unable"], {})
    note_probe(slug="unable", features=features(run_of(case, verdict)))
    note_probe(slug="able", features=features(run_of(case, "pass")))
    assert outcome(planned(tenant, needs)) == (["able"], {"unable": f"no_{case.feature}"})
    # What does not need it goes to both, and a later run that passes lets all in again.
    assert outcome(planned(tenant, Needs())) == (["able", "unable"], {})
    note_probe(slug="unable", features=features(run_of(case, "loss")))
    assert outcome(planned(tenant, needs)) == (["able", "unable"], {})


def by_provider(provider: Provider, feature: str) -> None:
    change_registration(provider, features={feature: False})


def by_probe(provider: Provider, feature: str) -> None:
    note_probe(slug=provider.slug, features={feature: False})


@pytest.mark.parametrize("tell", [by_provider, by_probe], ids=["provider", "probe"])
@pytest.mark.parametrize("feature", BITS)
def test_whoever_said_it_is_obeyed(
    tenant: Tenant,
    homes: dict[str, Provider],
    feature: str,
    tell: Callable[[Provider, str], None],
) -> None:
    tell(homes["unable"], feature)
    found = planned(tenant, Needs(bits=BITS[feature]))
    assert outcome(found) == (["able"], {"unable": f"no_{feature}"})


def test_the_more_specific_word_wins(tenant: Tenant, homes: dict[str, Provider]) -> None:
    needs = Needs(bits=BITS["functions"])
    note_probe(slug="unable", features={"functions": False})
    change_registration(homes["unable"], features={"functions": True})
    assert outcome(planned(tenant, needs))[0] == ["able", "unable"]
    add_model(
        provider=homes["unable"], upstream_id="own", alias="no-tools", supports_functions=False
    )
    found = plan("no-tools", load_table(tenant.pk), lambda _: True, standing(), needs=needs)
    assert outcome(found) == ([], {"unable": "no_functions"})


def test_every_case_has_a_need_that_routing_reads() -> None:
    for case in PROVEN:
        assert needs_of_case(case).bits & BITS[case.feature], case.name
