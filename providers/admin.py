"""Index: Django finds the console pages of what providers are, and of where requests go, here."""

from providers.admin_pages import overview
from providers.admin_pages.credentials import CredentialPage
from providers.admin_pages.models import MappingPage, ModelPage
from providers.admin_pages.policy import RegistryPolicyPage
from providers.admin_pages.registrations import ProviderPage
from providers.metrics.admin import TrafficPage
from providers.oauth.admin import LoginSettingsPage
from providers.routing.admin import AliasPage, RestingPage, RoutingPolicyPage, TracePage

__all__ = [
    "AliasPage",
    "CredentialPage",
    "LoginSettingsPage",
    "MappingPage",
    "ModelPage",
    "ProviderPage",
    "RegistryPolicyPage",
    "RestingPage",
    "RoutingPolicyPage",
    "TracePage",
    "TrafficPage",
    "overview",
]
