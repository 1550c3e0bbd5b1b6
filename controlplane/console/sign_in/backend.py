"""E-mail and password. One spelling of an address finds one account, in every database."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest

from tenants.members.models import User, canonical_email


class EmailBackend(ModelBackend):
    """Looks up the canonical form exactly: no collation decides who somebody is."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        email: str | None = None,
        **credentials: Any,
    ) -> User | None:
        name = email or username
        if not name or not password:
            return None
        user = find_account(name)
        if user is None:
            User().set_password(password)  # the same time as for a known address
            return None
        if user.check_password(password) and self.user_can_authenticate(user):
            return user
        return None


def find_account(name: str) -> User | None:
    return User.objects.filter(email=canonical_email(name)).first()
