"""Index: Django finds the models of each concept here."""

from providers.catalog.models import (
    ModelMapping,
    Provider,
    ProviderModel,
    ProviderShare,
    RegistryPolicy,
)
from providers.credentials.events import CredentialEvent
from providers.credentials.models import Credential
from providers.files.models import VendorObject
from providers.health.models import ProviderCheck
from providers.metrics.models import TrafficMinute
from providers.oauth.models import DeviceLogin, LoginSettings, QuotaSnapshot
from providers.routing.models import (
    Alias,
    AliasTarget,
    ErrorRule,
    Resting,
    RouteTrace,
    RoutingPolicy,
)

__all__ = [
    "Alias",
    "AliasTarget",
    "Credential",
    "CredentialEvent",
    "DeviceLogin",
    "ErrorRule",
    "LoginSettings",
    "ModelMapping",
    "Provider",
    "ProviderCheck",
    "ProviderModel",
    "ProviderShare",
    "QuotaSnapshot",
    "RegistryPolicy",
    "Resting",
    "RouteTrace",
    "RoutingPolicy",
    "TrafficMinute",
    "VendorObject",
]
