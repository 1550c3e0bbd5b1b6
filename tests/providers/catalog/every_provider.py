"""What the table tests know of each provider by hand: written from the vendors' pages, not from
the files they check."""

from __future__ import annotations

from providers.catalog.effective import Effective, ModelChange, Registration, effective
from providers.catalog.loader import catalog

ACCOUNT = "0123456789abcdef0123456789abcdef"
# Identifiers that a registration must bring.
ENDPOINTS: dict[str, dict[str, str]] = {
    "azure": {"resource": "acme-east"},
    "cloudflare-ai-gateway": {"account_id": ACCOUNT, "gateway_id": "team-gw"},
    "cloudflare-workers-ai": {"account_id": ACCOUNT},
    "google-vertex": {"project": "acme-prod-1", "location": "europe-west4"},
    "google-gemini-cli": {"project": "acme-prod-1"},
    "google-antigravity": {"project": "acme-prod-1"},
    "openai-codex": {"account_id": "acct-00000001"},
    "simulator": {"origin": "http://127.0.0.1:8000/simulator"},
}
# Described, never served from here.
REFUSED = {"cloudflare"}
IDS = sorted(catalog())


def hydrated(provider: str, **values: object) -> Effective:
    """The registration somebody would make of this catalog id, with one model of their own where
    the catalog leaves the models to the vendor."""
    file = catalog()[provider]
    models = () if file.models else (ModelChange(upstream_id="some/model-1"),)
    return effective(
        Registration(
            slug=provider,
            catalog_id=provider,
            endpoint=ENDPOINTS.get(provider, {}),
            models=models,
            **values,  # type: ignore[arg-type]
        ),
        file,
    )
