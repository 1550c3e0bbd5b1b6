"""What the sign-in library asks us: who is this, may they try again, where do they go next."""

from __future__ import annotations

import math
import uuid
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from django.contrib.auth import authenticate
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest
from django.urls import reverse

from controlplane.console.sign_in import factors, lockout
from controlplane.console.sign_in.backend import find_account
from controlplane.console.sign_in.caller import caller_address
from controlplane.kit import clock
from tenants.audit import services as audit
from tenants.audit.actor import acting_as
from tenants.members.models import User, canonical_email


def locked_out(error: lockout.LockedOut) -> ValidationError:
    minutes = max(1, math.ceil((error.until - clock.now()).total_seconds() / 60))
    return ValidationError(
        f"Too many failed sign-ins. Try again in {minutes} minute{'s' if minutes > 1 else ''}.",
        code="locked_out",
    )


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # the library is untyped
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False  # people are added by an administrator

    def get_client_ip(self, request: HttpRequest) -> str:
        return caller_address(request)

    def authenticate(self, request: HttpRequest, **credentials: Any) -> User | None:
        """Raises ValidationError when the account or the address has failed too often."""
        name = str(credentials.get("email") or "")
        account = find_account(name)
        address = caller_address(request)
        try:
            with lockout.attempt(
                account=str(account.pk) if account else canonical_email(name),
                address=address,
                now=clock.now(),
            ) as current:
                user = authenticate(request, **credentials)
                if isinstance(user, User):
                    current.forgive()
                    return user
        except lockout.LockedOut as error:
            raise locked_out(error) from None
        if account is not None:
            with acting_as("user", account.pk, account.email, address), transaction.atomic():
                audit.record(tenant_id=None, action="user.sign_in_failed", target=account)
        return None

    def reauthenticate(self, user: User, password: str) -> bool:
        again = self.authenticate(context.request, email=user.email, password=password)
        return again is not None and again.pk == user.pk

    def login(self, request: HttpRequest, user: User) -> None:
        address = caller_address(request)
        with acting_as("user", user.pk, user.email, address), transaction.atomic():
            super().login(request, user)
            audit.record(tenant_id=None, action="user.signed_in", target=user)

    def set_password(self, user: User, password: str) -> None:
        with (
            acting_as("user", user.pk, user.email, caller_address(context.request)),
            transaction.atomic(),
        ):
            user.set_password(password)
            user.must_change_password = False
            user.save(update_fields=["password", "must_change_password"])
            audit.record(tenant_id=None, action="user.password_changed", target=user)

    def get_login_redirect_url(self, request: HttpRequest) -> str:
        is_staff = getattr(request.user, "is_staff", False)
        return reverse("admin:index") if is_staff else reverse("mfa_index")

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        return self.get_login_redirect_url(request)


class FactorAdapter(DefaultMFAAdapter):  # type: ignore[misc]  # the library is untyped
    """Keeps secrets of second factors in the vault: the library's rows hold a reference."""

    def encrypt(self, text: str) -> str:
        return str(factors.seal_factor(user=context.request.user, text=text))

    def decrypt(self, encrypted_text: str) -> str:
        return factors.unseal_factor(uuid.UUID(encrypted_text))

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        entity: dict[str, str] = super().get_public_key_credential_rp_entity()
        return {**entity, "name": self.get_totp_issuer()}

    def generate_authenticator_name(self, user: User, kind: Authenticator.Type) -> str:
        count = Authenticator.objects.filter(user_id=user.pk, type=kind).count()
        return f"Passkey {count + 1}" if count else "Passkey"


class SingleSignOnAdapter(DefaultSocialAccountAdapter):  # type: ignore[misc]  # untyped
    """Single sign-on opens existing accounts; it makes none."""

    def is_open_for_signup(self, request: HttpRequest, sociallogin: Any) -> bool:
        return False

    def authenticate_by_email(self, sociallogin: Any) -> tuple[User, str] | None:
        """The account of an address that the provider says it has verified."""
        for address in sociallogin.email_addresses:
            if address.verified and (account := find_account(address.email)):
                return account, account.email
        return None
