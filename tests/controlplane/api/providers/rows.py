"""The registry's part of the matrix of the control API, and a row of each kind for a tenant."""

from __future__ import annotations

from typing import Any

from controlplane.kit.secret import Secret
from providers.catalog.model_services import add_mapping, add_model
from providers.catalog.models import Provider
from providers.catalog.services import register
from providers.credentials.services import add_credential, disable_credential
from providers.health.models import Finding, ProviderCheck
from providers.routing.aliases import PoolEntry, create_alias
from tenants.members.models import Tenant

NEW: dict[str, Any] = {
    "slug": "fresh",
    "protocol": "openai-completions",
    "base_url": "https://fresh.example.com/v1",
}
POOL: dict[str, Any] = {"name": "fresh", "targets": [{"model": "m"}]}
CHANGE: dict[str, Any] = {"has_precondition": True}
BUNDLE: dict[str, Any] = {"bundle": "name: main\nproviders: [{slug: fresh, catalog_id: groq}]"}

# (route, method) -> the arguments of a Row: least, status, body …
ROWS: dict[tuple[str, str], dict[str, Any]] = {
    ("api-providers", "get"): {"least": "anybody"},
    ("api-providers", "post"): {"least": "staff", "status": 201, "body": NEW},
    ("api-tenant-providers", "get"): {"least": "viewer"},
    ("api-tenant-providers", "post"): {"least": "admin", "status": 201, "body": NEW},
    ("api-provider", "get"): {"least": "viewer"},
    ("api-provider", "put"): {
        "least": "admin",
        "body": {"protocol": "openai-completions", "base_url": "https://own.example.com/v2"},
        **CHANGE,
    },
    ("api-provider", "patch"): {"least": "admin", "body": {"priority": 3}, **CHANGE},
    ("api-provider", "delete"): {"least": "admin", "status": 204, **CHANGE},
    ("api-provider-enable", "post"): {"least": "admin"},
    ("api-provider-disable", "post"): {"least": "admin"},
    ("api-provider-effective", "get"): {"least": "viewer"},
    ("api-provider-sharing", "get"): {"least": "staff"},
    ("api-provider-sharing", "put"): {
        "least": "staff",
        "status": 400,  # this row is a tenant's, and only the platform's are shared
        "body": {"with_all": True},
        **CHANGE,
    },
    ("api-provider-probe", "post"): {"least": "admin", "body": {}},
    ("api-provider-checks", "get"): {"least": "viewer"},
    ("api-provider-refresh", "post"): {"least": "admin", "body": {}},
    ("api-provider-models", "get"): {"least": "viewer"},
    ("api-provider-models", "post"): {
        "least": "admin",
        "status": 201,
        "body": {"upstream_id": "fresh"},
    },
    ("api-provider-model", "get"): {"least": "viewer"},
    ("api-provider-model", "patch"): {"least": "admin", "body": {"alias": "a"}, **CHANGE},
    ("api-provider-model", "delete"): {"least": "admin", "status": 204, **CHANGE},
    ("api-provider-mappings", "get"): {"least": "viewer"},
    ("api-provider-mappings", "post"): {
        "least": "admin",
        "status": 201,
        "body": {"client_model": "fresh", "upstream_model": "m"},
    },
    ("api-provider-default-mappings", "post"): {"least": "admin"},
    ("api-provider-mapping", "get"): {"least": "viewer"},
    ("api-provider-mapping", "patch"): {
        "least": "admin",
        "body": {"upstream_model": "other"},
        **CHANGE,
    },
    ("api-provider-mapping", "delete"): {"least": "admin", "status": 204, **CHANGE},
    ("api-provider-credentials", "get"): {"least": "admin"},
    ("api-provider-credentials", "post"): {
        "least": "admin",
        "status": 201,
        "body": {"label": "fresh", "secret": "sk-fresh"},
    },
    ("api-provider-credential", "get"): {"least": "admin"},
    # The home's credential was switched off once, so it is at its second version.
    ("api-provider-credential", "patch"): {
        "least": "admin",
        "body": {"weight": 2},
        "version": 2,
        **CHANGE,
    },
    ("api-provider-credential", "delete"): {
        "least": "admin",
        "status": 204,
        "version": 2,
        **CHANGE,
    },
    ("api-provider-credential-timeline", "get"): {"least": "admin"},
    ("api-provider-credential-enable", "post"): {"least": "admin"},
    ("api-provider-credential-disable", "post"): {"least": "admin"},
    ("api-aliases", "get"): {"least": "anybody"},
    ("api-aliases", "post"): {"least": "staff", "status": 201, "body": POOL},
    ("api-tenant-aliases", "get"): {"least": "viewer"},
    ("api-tenant-aliases", "post"): {"least": "admin", "status": 201, "body": POOL},
    ("api-alias", "get"): {"least": "viewer"},
    ("api-alias", "patch"): {"least": "admin", "body": {"is_enabled": False}, **CHANGE},
    ("api-alias", "delete"): {"least": "admin", "status": 204, **CHANGE},
    ("api-provider-rests", "get"): {"least": "viewer"},
    ("api-provider-rests-end", "post"): {"least": "admin"},
    ("api-provider-error-rules", "get"): {"least": "viewer"},
    ("api-provider-error-rules", "put"): {
        "least": "admin",
        "body": {"rules": [{"status": 400, "action": "continue"}]},
        **CHANGE,
    },
    ("api-routing-policy", "get"): {"least": "staff"},
    ("api-routing-policy", "patch"): {
        "least": "staff",
        "body": {"strategy": "fastest"},
        **CHANGE,
    },
    ("api-tenant-routing-policy", "get"): {"least": "viewer"},
    ("api-tenant-routing-policy", "patch"): {
        "least": "admin",
        "body": {"is_sticky": False},
        **CHANGE,
    },
    ("api-registry-policy", "get"): {"least": "staff"},
    ("api-registry-policy", "patch"): {
        "least": "staff",
        "body": {"shows_prices": False},
        **CHANGE,
    },
    ("api-tenant-registry-policy", "get"): {"least": "viewer"},
    ("api-tenant-registry-policy", "patch"): {
        "least": "admin",
        "body": {"force_model_prefix": True},
        **CHANGE,
    },
    ("api-registry-export", "get"): {"least": "staff"},
    ("api-registry-plan", "post"): {"least": "staff", "body": BUNDLE},
    ("api-registry-apply", "post"): {"least": "staff", "body": BUNDLE},
    ("api-registry-import", "post"): {
        "least": "staff",
        "body": {"origin": "environment", "content": "GROQ_API_KEY=gsk", "is_dry_run": False},
    },
}


def furnish_registry(tenant: Tenant) -> dict[str, Any]:
    """A registration of the tenant's with a row of each kind, by the names in paths. Its one
    credential is switched off, so that no test asks the network. In the tenant's scope."""
    provider = register(
        slug="own",
        tenant_id=tenant.id,
        protocol="openai-completions",
        base_url="https://own.example.com/v1",
        name=f"{tenant.slug} own",
    )
    credential = add_credential(
        provider=provider, label=f"{tenant.slug} key", secret=Secret("sk-own")
    )
    disable_credential(credential)
    model = add_model(provider=provider, upstream_id="m")
    mapping = add_mapping(provider, client_model="x", upstream_model="m")
    alias = create_alias(
        name=f"{tenant.slug}-fast", tenant_id=tenant.id, targets=[PoolEntry("m", provider)]
    )
    ProviderCheck.objects.create(
        provider=provider, is_ok=True, finding=Finding.WORKS, sentence=f"{tenant.slug} works."
    )
    return {
        "provider_id": provider.id,
        "credential_id": credential.id,
        "model_id": model.id,
        "mapping_id": mapping.id,
        "alias_id": alias.id,
    }


def crowd_registry(tenant: Tenant, provider_id: Any) -> None:
    """Twenty more rows of each kind beside the first. In the platform's scope."""
    own = Provider.objects.get(pk=provider_id)
    for number in range(20):
        provider = register(
            slug=f"more-{number}",
            tenant_id=tenant.id,
            protocol="openai-completions",
            base_url="https://more.example.com/v1",
        )
        add_credential(provider=own, label=f"more {number}", secret=Secret("sk-more"))
        add_model(provider=own, upstream_id=f"more-{number}")
        add_mapping(own, client_model=f"more-{number}", upstream_model="m")
        create_alias(name=f"more-{number}", tenant_id=tenant.id, targets=[PoolEntry("m", provider)])
        ProviderCheck.objects.create(
            provider=provider, is_ok=True, finding=Finding.WORKS, sentence="It works."
        )
    for credential in own.credentials.filter(label__startswith="more"):
        disable_credential(credential)
