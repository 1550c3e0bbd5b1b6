"""Asking somebody into a tenant who may not have an account yet.

The inviter gets a token, once, to hand over as they like; it works once, until it expires, and
only for the person whose address it names.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction

from controlplane.kit import clock
from controlplane.kit.secret import Secret
from tenants import scope
from tenants.audit.services import record
from tenants.errors import NotFound, StateConflict
from tenants.keys import peppers
from tenants.keys.lookup import TokenKind, digests, parse
from tenants.keys.services import new_token
from tenants.members.models import Invitation, Membership, Tenant, User, canonical_email
from tenants.members.services import add_member

VALID_FOR: Final = timedelta(days=7)
_NO_INVITATION: Final = "This invitation is not valid: ask for a new one."


@transaction.atomic
def invite(
    *, tenant: Tenant, email: str, role: str, now: datetime | None = None
) -> tuple[Invitation, Secret]:
    """The only moment the token exists. A newer invitation for the same address replaces the
    older one. Raises ValidationError by field, StateConflict if they are a member already."""
    now = now or clock.now()
    email = canonical_email(email)
    try:
        validate_email(email)
    except ValidationError as error:
        raise ValidationError({"email": error.messages}) from None
    if role not in Membership.Role.values:
        raise ValidationError({"role": f"Choose one of {', '.join(Membership.Role.values)}."})
    if Membership.objects.filter(tenant=tenant, user__email=email).exists():
        raise StateConflict(f"{email} is a member already: change the role instead.")
    Invitation.objects.filter(tenant=tenant, email=email, closed_at=None).update(closed_at=now)
    _, token, token_digest, _ = new_token(TokenKind.INVITE)
    invitation = Invitation.objects.create(
        tenant=tenant,
        email=email,
        role=role,
        digest=token_digest,
        expires_at=now + VALID_FOR,
    )
    record(
        tenant_id=tenant.id,
        action="invitation.created",
        target=invitation,
        after={"email": email, "role": role, "expires_at": invitation.expires_at.isoformat()},
    )
    return invitation, token


@transaction.atomic
def withdraw(*, invitation: Invitation, now: datetime | None = None) -> None:
    """Raises StateConflict if it was accepted or withdrawn before."""
    if not Invitation.objects.filter(pk=invitation.pk, closed_at=None).update(
        closed_at=now or clock.now()
    ):
        raise StateConflict("This invitation is closed already.")
    record(
        tenant_id=invitation.tenant_id,
        action="invitation.withdrawn",
        target=invitation,
        before={"email": invitation.email, "role": invitation.role},
    )


@transaction.atomic
def accept(*, token: str, user: User, now: datetime | None = None) -> Membership:
    """Opens the tenant's scope itself: until then the user belongs to none. Raises NotFound for
    whatever is wrong with the token or its reader, StateConflict for a member."""
    now = now or clock.now()
    if parse(token, TokenKind.INVITE) is None or not user.is_active:
        raise NotFound(_NO_INVITATION)
    with scope.platform("accept an invitation"):
        invitation = (
            Invitation.objects.open(now=now)
            .filter(digest__in=digests(token, peppers.ring()), email=canonical_email(user.email))
            .select_related("tenant")
            .first()
        )
    if invitation is None:
        raise NotFound(_NO_INVITATION)
    with scope.tenant(invitation.tenant_id):
        if not Invitation.objects.open(now=now).filter(pk=invitation.pk).update(closed_at=now):
            raise NotFound(_NO_INVITATION)
        return add_member(tenant=invitation.tenant, user=user, role=invitation.role)
