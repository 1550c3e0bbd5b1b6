"""However a login ends, it ends once, and what was secret in it is gone with the same write."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from providers.oauth.errors import LoginClosed
from providers.oauth.models import DeviceLogin
from tenants.audit.services import record

Status = DeviceLogin.Status
_OPEN = (Status.CREATED, Status.PENDING, Status.APPROVED, Status.CONFIRM)


@transaction.atomic
def close(
    login: DeviceLogin,
    status: str,
    *,
    code: str = "",
    detail: str = "",
    now: datetime,
    only_from: Sequence[Status] = _OPEN,
    generation: int | None = None,
) -> bool:
    """False: it had ended before, or (with `generation`) somebody else holds it now."""
    rows = DeviceLogin.objects.filter(pk=login.pk, status__in=[*only_from], finished_at=None)
    if generation is not None:
        rows = rows.filter(generation=generation)
    moved = rows.update(
        status=status,
        finished_at=now,
        error_code=code[:40],
        error_detail=detail[:300],
        sealed=None,
        user_code="",
        verification_uri="",
        verification_uri_complete="",
        next_poll_at=None,
        polling_until=None,
    )
    # The end that makes a credential is told with it.
    if moved and status != Status.COMPLETED:
        record(
            tenant_id=login.tenant_id,
            action="login.ended",
            target=login,
            after={"status": str(status), "code": code},
        )
    return bool(moved)


def not_open(login: DeviceLogin) -> LoginClosed:
    return LoginClosed(f"This sign-in is over: {login.state.label.lower()}. Start again.")
