"""A registry in use, for the tests of its pages: a registration in each state, with all that may
belong to one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.messages import get_messages
from django.http import HttpResponse
from django.urls import reverse

from controlplane.kit.secret import Secret
from providers.catalog.model_services import add_mapping, add_model
from providers.catalog.models import ModelMapping, Provider, ProviderModel
from providers.catalog.services import register, set_enabled, share
from providers.credentials.models import Credential
from providers.credentials.services import add_credential
from providers.health.models import Finding, ProviderCheck
from providers.routing.aliases import PoolEntry, create_alias
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.members.models import Tenant

ADD = "/admin/providers/provider/add/"
CANARY = "sk-canary-7f3a9c51e2d8b604"
CUSTOM = {"protocol": "openai-completions", "base_url": "https://models.example.com/v1"}


@dataclass(frozen=True, slots=True)
class Registered:
    provider: Provider
    credential: Credential
    model: ProviderModel
    mapping: ModelMapping


def furnish(
    slug: str = "own", tenant: Tenant | None = None, *, name: str = "", text: str = "theirs"
) -> Registered:
    """`text` stands in every place where somebody may write what they like."""
    with scope.platform("test"), acting_as("command", None, "tests"):
        provider = register(
            slug=slug,
            tenant_id=tenant.pk if tenant is not None else None,
            name=name or text,
            fallback_notes=text,
            headers={"x-team": text} if text.isascii() and text.isprintable() else {},
            **CUSTOM,
        )
        credential = add_credential(provider=provider, label=text[:120], secret=Secret(CANARY))
        model = add_model(provider=provider, upstream_id="m", alias=text, display_name=text)
        mapping = add_mapping(provider, client_model=text, upstream_model=text)
        create_alias(
            name=f"{slug} {text}", tenant_id=None, targets=[PoolEntry("m", provider)]
        ) if tenant is None else None
        ProviderCheck.objects.create(
            provider=provider, is_ok=False, finding=Finding.TIMEOUT, sentence=text
        )
    return Registered(provider, credential, model, mapping)


def in_each_state(tenant: Tenant) -> dict[str, Provider]:
    made = {}
    with scope.platform("test"), acting_as("command", None, "tests"):
        for slug, finding in (
            ("works", Finding.WORKS),
            ("broken", Finding.TIMEOUT),
            ("keyless", Finding.NO_CREDENTIAL),
            ("unchecked", None),
            ("off", Finding.TIMEOUT),
        ):
            made[slug] = register(slug=slug, **CUSTOM)
            if finding is not None:
                ProviderCheck.objects.create(
                    provider=made[slug],
                    is_ok=finding is Finding.WORKS,
                    finding=finding,
                    sentence=f"{slug} was checked.",
                )
        set_enabled(made["off"], is_enabled=False)
        made["theirs"] = register(slug="theirs", tenant_id=tenant.pk, **CUSTOM)
        share(made["works"], with_all=False, tenants=[tenant])
        stuck = add_credential(provider=made["broken"], label="login", secret=Secret(CANARY))
        Credential.objects.filter(pk=stuck.pk).update(state=Credential.State.NEEDS_LOGIN)
    return made


def said(answer: HttpResponse) -> str:
    return " ".join(str(message) for message in get_messages(answer.wsgi_request))


def url(view: str, row: Any = None, kind: str = "provider") -> str:
    return reverse(f"admin:providers_{kind}_{view}", args=[row.pk] if row is not None else [])


def filled(page: HttpResponse, **changes: Any) -> dict[str, Any]:
    """A form as the browser would send it back."""
    form = page.context["form"]
    shown = {name: form[name].value() for name in form.fields}
    data = {
        name: "on" if value is True else str(value).replace("\n", "\r\n")
        for name, value in shown.items()
        if value is not None and value is not False
    }
    return {**data, **changes}
