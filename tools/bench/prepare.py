"""Registers the canned vendors in the database of a gateway that is to be measured.

    python -m tools.bench.prepare CANNED_PORT PACED_PORT

prints two keys: of a tenant with the ledger's default durability, and of one whose ledger may be a
second late. Both have limits at several scopes, far above what a bench does. Runs in a process of
its own, with the gateway's environment.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings.local")

# Model -> protocol and base URL below the two vendors.
MODELS = {
    "canned": ("openai-completions", "http://127.0.0.1:{canned}/v1"),
    "canned-messages": ("anthropic-messages", "http://127.0.0.1:{canned}"),
    "paced": ("openai-completions", "http://127.0.0.1:{paced}/rate=20/count=80/v1"),
    "flat": ("openai-completions", "http://127.0.0.1:{paced}/rate=0/count=1000/v1"),
    "flat-messages": ("anthropic-messages", "http://127.0.0.1:{paced}/rate=0/count=1000"),
}
FAR = 10**12
PER_MINUTE: dict[str, Any] = {"kind": "requests", "period": "minute", "amount": FAR}
TOKENS: dict[str, Any] = {"kind": "tokens", "period": "day", "amount": FAR}
PARALLEL: dict[str, Any] = {"kind": "parallel", "period": "none", "amount": FAR}


def main(canned: int, paced: int) -> None:
    django.setup()
    from controlplane.kit.secret import Secret
    from providers.catalog import services
    from providers.credentials.services import store_key
    from tenants import scope
    from tenants.audit.actor import acting_as
    from tenants.keys.services import create_key
    from tenants.members.models import Tenant
    from tenants.quotas.services import change_policy, create_limit

    with acting_as("command", None, "bench", ""), scope.platform("bench"):
        for name, (protocol, base_url) in MODELS.items():
            provider = services.register(
                slug=name, protocol=protocol, base_url=base_url.format(canned=canned, paced=paced)
            )
            store_key(provider=provider, label="bench", secret=Secret("canned-vendor-key"))
            services.add_model(provider=provider, upstream_id=name)
        create_limit(tenant=None, is_platform_set=True, scope_kind="platform", **PER_MINUTE)
        for durability in ("strict", "relaxed"):
            tenant = Tenant.objects.create(slug=f"bench-{durability}", name="Bench")
            change_policy(tenant=tenant, version=1, durability=durability)
            key, secret = create_key(tenant=tenant, label="bench")
            for limit in (PER_MINUTE, TOKENS, PARALLEL):
                create_limit(tenant=tenant, is_platform_set=True, scope_kind="tenant", **limit)
            create_limit(
                tenant=tenant,
                is_platform_set=False,
                scope_kind="key",
                scope_value=str(key.pk),
                **PER_MINUTE,
            )
            print(secret.reveal())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
