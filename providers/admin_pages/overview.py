"""What the overview says of providers and credentials."""

from __future__ import annotations

from django.db.models import Count, Q
from django.http import HttpRequest
from django.urls import reverse

from controlplane.console import dashboard
from controlplane.kit.badges import Badge, Tone
from providers.admin_pages.listing import FAILING, NEEDS_SOMEBODY
from providers.catalog.models import Provider
from providers.credentials.models import Credential
from providers.health.models import Finding
from providers.health.services import with_latest_check


@dashboard.card(order=40)
def providers_card(_request: HttpRequest) -> dashboard.Card:
    counts = with_latest_check(Provider.objects.filter(is_enabled=True)).aggregate(
        on=Count("pk"),
        broken=Count("pk", filter=Q(health_finding__in=FAILING)),
        keyless=Count("pk", filter=Q(health_finding=Finding.NO_CREDENTIAL)),
    )
    broken, keyless = counts["broken"], counts["keyless"]
    path = reverse("admin:providers_provider_changelist")
    badges = []
    if broken:
        badges.append(Badge(f"{broken} failing now", Tone.BAD))
    if keyless:
        badges.append(Badge(f"{keyless} without credential", Tone.WARN))
    if broken:
        path += "?state=failing"
    elif keyless:
        path += "?state=no-credential"
    return dashboard.Card(
        title="Providers",
        figure=str(counts["on"]),
        note="switched on",
        url=path,
        icon="dns",
        badges=tuple(badges),
    )


@dashboard.card(order=45)
def credentials_card(_request: HttpRequest) -> dashboard.Card:
    counts = Credential.objects.aggregate(
        usable=Count("pk", filter=~Q(state=Credential.State.DISABLED)),
        stuck=Count("pk", filter=Q(provider__is_enabled=True, state__in=NEEDS_SOMEBODY)),
    )
    stuck = counts["stuck"]
    path = reverse("admin:providers_credential_changelist")
    return dashboard.Card(
        title="Credentials",
        figure=str(counts["usable"]),
        note="not disabled",
        url=f"{path}?state=attention" if stuck else path,
        icon="vpn_key",
        badges=(Badge(f"{stuck} need{'s' if stuck == 1 else ''} somebody", Tone.BAD),)
        if stuck
        else (),
    )


@dashboard.step(order=30)
def first_provider(_request: HttpRequest) -> dashboard.Step:
    return dashboard.Step(
        title="Add a provider",
        text="Pick one of the catalog and paste its key, or name a server of your own.",
        url=reverse("admin:providers_provider_add"),
        label="Add a provider",
        # The simulator is there to try; it is nobody's provider.
        is_done=Provider.objects.exclude(catalog_id="simulator").exists(),
    )
