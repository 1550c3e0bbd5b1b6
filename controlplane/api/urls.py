"""Every path below /api/. Each route has a row in tests/controlplane/api/test_matrix.py."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path, re_path, register_converter

from controlplane.api import (
    alerts,
    audit,
    docs,
    keys,
    members,
    quotas,
    tenants,
    usage,
    usage_reports,
)
from controlplane.api import schema as schema  # describes our authentication to drf-spectacular
from controlplane.api.view import NoSuchPath


class RowId:
    """Any text: an access function decides, so that what is no id answers as a missing row does."""

    regex = "[^/]+"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: object) -> str:
        return str(value)


register_converter(RowId, "row_id")

_TENANT = "tenants/<row_id:tenant_id>"

version_1: list[URLPattern] = [
    path("tenants", tenants.TenantsView.as_view(), name="api-tenants"),
    path(_TENANT, tenants.TenantView.as_view(), name="api-tenant"),
    path(f"{_TENANT}/status", tenants.TenantStatusView.as_view(), name="api-tenant-status"),
    path(f"{_TENANT}/members", members.MembersView.as_view(), name="api-members"),
    path(f"{_TENANT}/members/<row_id:member_id>", members.MemberView.as_view(), name="api-member"),
    path(f"{_TENANT}/invitations", members.InvitationsView.as_view(), name="api-invitations"),
    path(
        f"{_TENANT}/invitations/<row_id:invitation_id>",
        members.InvitationView.as_view(),
        name="api-invitation",
    ),
    path(
        f"{_TENANT}/invitations/<row_id:invitation_id>/withdraw",
        members.WithdrawInvitationView.as_view(),
        name="api-invitation-withdraw",
    ),
    path(
        "invitations/accept",
        members.AcceptInvitationView.as_view(),
        name="api-invitation-accept",
    ),
    path(f"{_TENANT}/keys", keys.KeysView.as_view(), name="api-keys"),
    path(f"{_TENANT}/keys/<row_id:key_id>", keys.KeyView.as_view(), name="api-key"),
    path(
        f"{_TENANT}/keys/<row_id:key_id>/rotate",
        keys.RotateKeyView.as_view(),
        name="api-key-rotate",
    ),
    path(
        f"{_TENANT}/keys/<row_id:key_id>/revoke",
        keys.RevokeKeyView.as_view(),
        name="api-key-revoke",
    ),
    path(f"{_TENANT}/audit/events", audit.TenantEventsView.as_view(), name="api-tenant-events"),
    path(
        f"{_TENANT}/audit/events/<row_id:event_id>",
        audit.TenantEventView.as_view(),
        name="api-tenant-event",
    ),
    path(f"{_TENANT}/audit/head", audit.TenantHeadView.as_view(), name="api-tenant-audit-head"),
    path(
        f"{_TENANT}/audit/verify",
        audit.VerifyTenantView.as_view(),
        name="api-tenant-audit-verify",
    ),
    path(f"{_TENANT}/limits", quotas.LimitsView.as_view(), name="api-limits"),
    path(f"{_TENANT}/limits/<row_id:limit_id>", quotas.LimitView.as_view(), name="api-limit"),
    path(f"{_TENANT}/usage-policy", quotas.UsagePolicyView.as_view(), name="api-usage-policy"),
    path(
        "usage-policy", quotas.PlatformUsagePolicyView.as_view(), name="api-platform-usage-policy"
    ),
    path("limits", quotas.PlatformLimitsView.as_view(), name="api-platform-limits"),
    path(
        "limits/<row_id:platform_limit_id>",
        quotas.PlatformLimitView.as_view(),
        name="api-platform-limit",
    ),
    path(f"{_TENANT}/usage/events", usage.UsageEventsView.as_view(), name="api-usage-events"),
    path(
        f"{_TENANT}/usage/report", usage_reports.UsageReportView.as_view(), name="api-usage-report"
    ),
    path(
        "usage/report", usage_reports.PlatformReportView.as_view(), name="api-platform-usage-report"
    ),
    path(f"{_TENANT}/usage/movers", usage_reports.MoversView.as_view(), name="api-usage-movers"),
    path(
        f"{_TENANT}/usage/errors", usage_reports.UsageErrorsView.as_view(), name="api-usage-errors"
    ),
    path(f"{_TENANT}/usage/budgets", usage_reports.BudgetsView.as_view(), name="api-usage-budgets"),
    path(f"{_TENANT}/usage/export", usage.UsageExportView.as_view(), name="api-usage-export"),
    path(f"{_TENANT}/usage/statement", usage.StatementView.as_view(), name="api-usage-statement"),
    path(f"{_TENANT}/usage/verify", usage.VerifyLedgerView.as_view(), name="api-usage-verify"),
    path(
        f"{_TENANT}/usage/corrections",
        usage.CorrectionsView.as_view(),
        name="api-usage-corrections",
    ),
    path(f"{_TENANT}/alerts", alerts.AlertsView.as_view(), name="api-alerts"),
    path(f"{_TENANT}/alert-receivers", alerts.ReceiversView.as_view(), name="api-alert-receivers"),
    path(
        f"{_TENANT}/alert-receivers/<row_id:receiver_id>",
        alerts.ReceiverView.as_view(),
        name="api-alert-receiver",
    ),
    path(
        f"{_TENANT}/alert-receivers/<row_id:receiver_id>/test",
        alerts.TestReceiverView.as_view(),
        name="api-alert-receiver-test",
    ),
    path(
        f"{_TENANT}/alert-receivers/<row_id:receiver_id>/secret",
        alerts.ReceiverSecretView.as_view(),
        name="api-alert-receiver-secret",
    ),
    path("alerts", alerts.PlatformAlertsView.as_view(), name="api-platform-alerts"),
    path(
        "alert-receivers",
        alerts.PlatformReceiversView.as_view(),
        name="api-platform-alert-receivers",
    ),
    path(
        "alert-receivers/<row_id:platform_receiver_id>",
        alerts.PlatformReceiverView.as_view(),
        name="api-platform-alert-receiver",
    ),
    path(
        "alert-receivers/<row_id:platform_receiver_id>/test",
        alerts.TestPlatformReceiverView.as_view(),
        name="api-platform-alert-receiver-test",
    ),
    path(
        "alert-receivers/<row_id:platform_receiver_id>/secret",
        alerts.PlatformReceiverSecretView.as_view(),
        name="api-platform-alert-receiver-secret",
    ),
    path("audit/events", audit.EventsView.as_view(), name="api-events"),
    path("audit/heads", audit.HeadsView.as_view(), name="api-audit-heads"),
    path("audit/verify", audit.VerifyView.as_view(), name="api-audit-verify"),
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("v1/", include(version_1)),
    path("v1/", include("controlplane.api.providers.urls")),
    path("v1/", include("controlplane.api.logins.urls")),
    path("schema/", docs.schema, name="api-schema"),
    path("docs/", docs.swagger, name="api-docs"),
    re_path(r"", NoSuchPath.as_view(), name="api-no-such-path"),
]
