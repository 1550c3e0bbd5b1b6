"""The sign-in library's forms, guarded: guesses count, and a code works once."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from allauth.account.forms import ChangePasswordForm as LibraryChangePasswordForm
from allauth.account.forms import LoginForm as LibraryLoginForm
from allauth.core import context
from allauth.mfa.adapter import get_adapter
from allauth.mfa.base.forms import AuthenticateForm, ReauthenticateForm
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.forms import ActivateTOTPForm
from allauth.mfa.totp.internal import auth as totp
from allauth.mfa.webauthn.forms import AddWebAuthnForm
from django import forms

from controlplane.console.sign_in import codes, lockout
from controlplane.console.sign_in.adapters import locked_out
from controlplane.console.sign_in.caller import caller_address
from controlplane.kit import clock
from controlplane.kit.secret import Secret
from tenants.members.models import User
from tenants.vault import services as vault


@contextmanager
def counted(user: User) -> Iterator[None]:
    """What runs inside counts as a failed sign-in of `user` when it raises ValidationError."""
    try:
        with lockout.attempt(
            account=str(user.pk), address=caller_address(context.request), now=clock.now()
        ) as current:
            yield
            current.forgive()
    except lockout.LockedOut as error:
        raise locked_out(error) from None


class LoginForm(LibraryLoginForm):  # type: ignore[misc]  # the library is untyped
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["login"].label = "E-mail"
        self.fields["login"].widget.attrs.update(
            {"placeholder": "", "autofocus": True, "autocomplete": "username webauthn"}
        )
        self.fields["password"].widget.attrs["placeholder"] = ""
        if "remember" in self.fields:
            self.fields["remember"].label = "Keep me signed in for 12 hours"


class ChangePasswordForm(LibraryChangePasswordForm):  # type: ignore[misc]  # untyped
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        labels = {
            "oldpassword": "Current password",
            "password1": "New password",
            "password2": "New password, again",
        }
        for name, label in labels.items():
            self.fields[name].label = label
            self.fields[name].widget.attrs["placeholder"] = ""
        self.fields["password1"].help_text = "At least 12 characters, and not a common password."

    def clean_oldpassword(self) -> str:
        with counted(self.user):
            return str(super().clean_oldpassword())

    def clean_password1(self) -> str:
        password = str(self.cleaned_data["password1"])
        if self.user.check_password(password):
            raise forms.ValidationError("Choose a password that differs from the current one.")
        return password


class _OneTimeCode:
    """Adds to a form with a `code`: tries are counted, and a code is spent by one row."""

    user: User
    authenticator: Authenticator

    def clean_code(self) -> str:
        with counted(self.user):
            code = str(super().clean_code())  # type: ignore[misc]  # the form this is mixed into
            is_app = self.authenticator.type == Authenticator.Type.TOTP
            if is_app and not codes.spend(
                authenticator_id=self.authenticator.pk, code=code, now=clock.now()
            ):
                raise get_adapter().validation_error("incorrect_code")
        return code


class CodeForm(_OneTimeCode, AuthenticateForm):  # type: ignore[misc]  # the library is untyped
    pass


class CodeAgainForm(_OneTimeCode, ReauthenticateForm):  # type: ignore[misc]  # untyped
    pass


class AddKeyForm(AddWebAuthnForm):  # type: ignore[misc]  # the library is untyped
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        alone = self.fields["passwordless"]
        alone.label = "Sign in with this key alone"
        alone.initial = True
        alone.help_text = (
            "No password is asked for; the key asks for your finger, face or PIN. Without this it "
            "is a second step after the password."
        )


class ActivateAppForm(ActivateTOTPForm):  # type: ignore[misc]  # the library is untyped
    """Keeps the secret sealed in the session until the first code proves it was scanned."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.user: User = kwargs.pop("user")
        forms.Form.__init__(self, *args, **kwargs)
        self.secret = _pending_secret(self.user) if self.is_bound else ""
        if not self.secret:
            self.secret = totp.generate_totp_secret()
            _keep_pending_secret(self.user, self.secret)

    def clean_code(self) -> str:
        with counted(self.user):
            code = str(self.cleaned_data["code"])
            if not totp.validate_totp_code(self.secret, code):
                raise get_adapter().validation_error("incorrect_code")
        return code


def _keep_pending_secret(user: User, secret: str) -> None:
    sealed = vault.seal(
        tenant_id=None,
        model="tenants.User",
        row_id=user.pk,
        field="pending_totp",
        secret=Secret(secret),
    )
    context.request.session[totp.SECRET_SESSION_KEY] = base64.b64encode(sealed).decode()


def _pending_secret(user: User) -> str:
    kept = context.request.session.get(totp.SECRET_SESSION_KEY)
    if not kept:
        return ""
    try:
        sealed = base64.b64decode(kept, validate=True)
    except binascii.Error:
        return ""
    return vault.unseal(
        tenant_id=None,
        model="tenants.User",
        row_id=user.pk,
        field="pending_totp",
        sealed=sealed,
    ).reveal()
