"""Index: Django finds the console pages of each concept here."""

from tenants.admin_pages.charging import UsagePolicyPage
from tenants.admin_pages.invitations import InvitationPage
from tenants.alerts.admin import AlertPage, ReceiverPage
from tenants.audit.admin import AuditPage
from tenants.keys.admin import KeyPage
from tenants.members.admin import PersonPage, TenantPage
from tenants.quotas.admin import LimitPage
from tenants.usage.admin import UsagePage

__all__ = [
    "AlertPage",
    "AuditPage",
    "InvitationPage",
    "KeyPage",
    "LimitPage",
    "PersonPage",
    "ReceiverPage",
    "TenantPage",
    "UsagePage",
    "UsagePolicyPage",
]
