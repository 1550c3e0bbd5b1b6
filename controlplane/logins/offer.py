"""What a person may connect, and for whom: the choices of the start page."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from providers.access import usable
from providers.catalog.models import Provider
from providers.catalog.schema import Identifier, OAuth, Subscription
from providers.credentials.models import Credential
from providers.errors import ProviderError
from providers.oauth.models import LoginSettings
from providers.oauth.ways import blanks, file_of, position_of, settings_of, ways_of
from tenants import scope
from tenants.access import Role, is_staff, role_in, tenants_of
from tenants.members.models import Tenant, User

PLATFORM = "platform"
# The pages' names in older links.
_ALSO_KNOWN_AS = {"copilot": "github-copilot"}


@dataclass(frozen=True, slots=True)
class Blank:
    """Something the person has to say. `name` is the form field's."""

    name: str
    identifier: str
    description: str
    value: str


@dataclass(frozen=True, slots=True)
class Way:
    name: str
    description: str
    is_pasted: bool
    blanks: list[Blank]


@dataclass(frozen=True, slots=True)
class Owner:
    """For whom the login is. `value` is a tenant's slug, or "platform"."""

    value: str
    label: str
    can_share: bool
    tenant: Tenant | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """One provider as one person may connect it, for one owner."""

    provider: Provider
    owner: Owner
    owners: list[Owner]
    ways: list[Way]
    position: Subscription | None
    settings: LoginSettings | None
    problem: str = ""
    connected: list[Credential] = field(default_factory=list)

    @property
    def is_on(self) -> bool:
        return self.settings is not None and self.settings.is_on and not self.problem

    @property
    def can_import(self) -> bool:
        """Whether the provider's own program keeps its sign-in in a file that we can read."""
        file = file_of(self.provider)
        return self.is_on and file is not None and "token_file" in file.auth.alternatives

    @property
    def can_share(self) -> bool:
        return (
            self.owner.can_share
            and self.settings is not None
            and self.settings.permits(is_personal=False, is_platforms=self.owner.tenant is None)
        )


def owners_of(user: User) -> list[Owner]:
    """The tenants for which this person may sign in, and the platform for staff."""
    found = []
    rows = tenants_of(user).filter(status=Tenant.Status.ACTIVE).order_by("name", "slug")
    for tenant in rows[:200]:
        role = role_in(user, tenant.pk)
        if role in {Role.MEMBER, Role.ADMIN, Role.OWNER}:
            can_share = role in {Role.ADMIN, Role.OWNER}
            found.append(Owner(tenant.slug, tenant.name, can_share, tenant))
    if is_staff(user):
        found.append(Owner(PLATFORM, "The platform", True))
    return found


def offer_of(
    user: User, name: str, *, wanted: str = "", typed: dict[str, str] | None = None
) -> Offer | None:
    """`name` is a slug or a catalogue id; `wanted` the owner chosen. None = nothing here is this
    person's to connect."""
    name = _ALSO_KNOWN_AS.get(name, name)
    found: list[tuple[Owner, Provider]] = []
    for owner in owners_of(user):
        provider = _provider(owner, name)
        if provider is not None:
            found.append((owner, provider))
    if not found:
        return None
    owner, provider = next((pair for pair in found if pair[0].value == wanted), found[0])
    if wanted and owner.value != wanted:
        return None
    with scope.platform("offer a login"):
        settings = settings_of(provider)
        problem, ways = "", {}
        try:
            ways = ways_of(provider, settings)
        except ProviderError as error:
            problem = error.message
        connected = _connected(user, owner, provider)
    return Offer(
        provider=provider,
        owner=owner,
        owners=[pair[0] for pair in found],
        ways=[_way(provider, key, way, typed or {}) for key, way in ways.items()],
        position=position_of(provider),
        settings=settings,
        problem=problem,
        connected=connected,
    )


def offers(user: User) -> list[tuple[Owner, Provider]]:
    """Everything this person could connect: registrations with logins that are switched on."""
    found = []
    for owner in owners_of(user):
        with scope.platform("list logins"):
            rows: Any = (
                usable(owner.tenant.pk)
                if owner.tenant is not None
                else Provider.objects.filter(tenant=None)
            )
            for provider in rows.filter(is_enabled=True).order_by("slug"):
                settings = settings_of(provider)
                if settings is not None and settings.is_on:
                    found.append((owner, provider))
    return found


def _provider(owner: Owner, name: str) -> Provider | None:
    with scope.platform("offer a login"):
        rows: Any = (
            usable(owner.tenant.pk)
            if owner.tenant is not None
            else Provider.objects.filter(tenant=None)
        )
        rows = rows.filter(is_enabled=True)
        named = [*rows.filter(slug=name), *rows.filter(catalog_id=name)]
    found: Provider | None = next(
        (row for row in named if row.tenant_id is not None), next(iter(named), None)
    )
    return found


def _connected(user: User, owner: Owner, provider: Provider) -> list[Credential]:
    rows = Credential.objects.filter(
        provider=provider, tenant=owner.tenant, kind=Credential.Kind.OAUTH
    ).defer("sealed")
    if not owner.can_share:
        rows = rows.filter(owner=user)
    return list(rows.order_by("label"))


def _way(provider: Provider, name: str, way: OAuth, typed: dict[str, str]) -> Way:
    found = []
    for key, identifier in blanks(provider, way).items():
        field_name = f"{name}.{key}"
        found.append(
            Blank(
                name=field_name,
                identifier=key,
                description=identifier.description,
                value=typed.get(field_name, _default(provider, key, identifier)),
            )
        )
    return Way(
        name=name,
        description=way.description or name.replace("_", " "),
        is_pasted=way.flow != "device_code",
        blanks=found,
    )


def _default(provider: Provider, key: str, identifier: Identifier) -> str:
    value = provider.endpoint.get(key) or identifier.default
    return str(value)
