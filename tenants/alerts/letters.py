"""An alert as a letter and as the body of a webhook."""

from __future__ import annotations

import smtplib
from typing import Any

from django.conf import settings
from django.core.mail import send_mail

from controlplane.kit import json
from tenants.alerts.models import Alert, AlertDelivery
from tenants.members.models import Membership, User


def send_letter(delivery: AlertDelivery) -> str:
    """Empty: the mail server took it, or there is nobody to write to. Else what is wrong."""
    if not settings.EMAIL_HOST:
        return "No mail server is set (EMAIL_HOST)."
    recipients = _recipients(delivery)
    if not recipients:
        return ""
    # A subject is one line, whatever the names in it hold.
    subject = " ".join(delivery.alert.title.split())
    try:
        send_mail(subject, _letter(delivery.alert), settings.DEFAULT_FROM_EMAIL, recipients)
    except (smtplib.SMTPException, OSError) as error:
        return f"The mail server did not take it ({type(error).__name__})."
    return ""


def body_of(alert: Alert) -> bytes:
    """What a webhook gets. The same bytes at each attempt."""
    tenant = alert.tenant
    content: dict[str, Any] = {
        "type": f"alert.{alert.kind}",
        "timestamp": alert.created_at.isoformat(),
        "data": {
            "id": str(alert.id),
            "kind": alert.kind,
            "tenant_id": str(alert.tenant_id) if alert.tenant_id else None,
            "tenant": tenant.slug if tenant is not None else None,
            "title": alert.title,
            "text": alert.text,
            "facts": alert.facts,
        },
    }
    return json.dumps(content)


def _recipients(delivery: AlertDelivery) -> list[str]:
    receiver, alert = delivery.receiver, delivery.alert
    if receiver is not None and receiver.address:
        return [receiver.address]
    people = set(_people(alert))
    if alert.person is not None and alert.person.is_active:
        people.add(alert.person.email)
    return sorted(address for address in people if address)


def _people(alert: Alert) -> list[str]:
    """Those who can do something about it."""
    if alert.tenant_id is None:
        staff = User.objects.filter(is_staff=True, is_active=True)
        return list(staff.values_list("email", flat=True))
    return list(
        Membership.objects.filter(
            tenant_id=alert.tenant_id,
            role__in=[Membership.Role.ADMIN, Membership.Role.OWNER],
            user__is_active=True,
        ).values_list("user__email", flat=True)
    )


def _letter(alert: Alert) -> str:
    whose = f"Tenant: {alert.tenant.slug}\n" if alert.tenant is not None else ""
    where = f"\n{settings.PUBLIC_URL}\n" if settings.PUBLIC_URL else ""
    return f"{alert.text}\n\n{whose}{where}This letter comes once.\n"
