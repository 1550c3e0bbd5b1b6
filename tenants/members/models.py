"""Who there is: people, tenants, and what a person may do in a tenant."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower

from controlplane.kit.badges import StateChoices, Tone
from controlplane.kit.models import Row, Versioned
from tenants.scope import TenantOwned, TenantOwnedManager, TenantOwnedQuerySet


def canonical_email(text: str) -> str:
    """The one spelling under which an address is stored and looked up."""
    return unicodedata.normalize("NFKC", text).strip().lower()


class UserManager(BaseUserManager["User"]):
    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(email=canonical_email(username or ""))

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        if not email:
            raise ValueError("A user needs an e-mail address.")
        user = self.model(email=canonical_email(email), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractBaseUser, PermissionsMixin, Row):
    """A person. Signs in by e-mail. `is_staff` makes platform staff; roles in a tenant are
    Memberships and have nothing to do with it."""

    email = models.EmailField(unique=True)
    name = models.CharField(max_length=120, blank=True)
    is_staff = models.BooleanField("platform staff", default=False)
    is_active = models.BooleanField(default=True)
    # Set for the first admin, whose one-time password must be changed at first sign-in.
    must_change_password = models.BooleanField(default=False)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        verbose_name = "person"
        verbose_name_plural = "people"
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_unique_ci")]

    def __str__(self) -> str:
        return self.email

    def get_short_name(self) -> str:
        return self.name or self.email


class Tenant(Row, Versioned):
    class Status(StateChoices):
        ACTIVE = "active", Tone.GOOD, "Active"
        SUSPENDED = "suspended", Tone.BAD, "Suspended"
        CLOSING = "closing", Tone.WARN, "Closing"

    slug = models.CharField(
        max_length=40,
        unique=True,
        validators=[
            RegexValidator(
                r"^[a-z][a-z0-9-]{1,38}[a-z0-9]\Z",
                "Use 3 to 40 lower-case letters, digits and hyphens, starting with a letter.",
            )
        ],
    )
    name = models.CharField(max_length=120)
    status = models.CharField(max_length=12, choices=Status, default=Status.ACTIVE)
    plan_notes = models.TextField(blank=True)
    time_zone = models.CharField(max_length=64, default="UTC")

    def __str__(self) -> str:
        return self.slug


class Membership(TenantOwned, Versioned):
    class Role(models.TextChoices):
        OWNER = "owner", "Owner"
        ADMIN = "admin", "Admin"
        MEMBER = "member", "Member"
        VIEWER = "viewer", "Viewer"

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=8, choices=Role, default=Role.MEMBER)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "user"], name="membership_user_unique")
        ]

    def __str__(self) -> str:
        return f"{self.user_id} in {self.tenant_id} as {self.role}"


class InvitationQuerySet(TenantOwnedQuerySet["Invitation"]):
    def open(self, *, now: datetime) -> InvitationQuerySet:
        return self.filter(closed_at=None, expires_at__gt=now)


class Invitation(TenantOwned):
    email = models.EmailField()
    role = models.CharField(max_length=8, choices=Membership.Role)
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    expires_at = models.DateTimeField()
    # Accepted, withdrawn or replaced by a newer one.
    closed_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = TenantOwnedManager.from_queryset(InvitationQuerySet)()

    class Meta:
        base_manager_name = "objects"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "email"],
                condition=Q(closed_at=None),
                name="invitation_one_open",
            )
        ]

    def __str__(self) -> str:
        return f"{self.email} as {self.role}, {self.id}"
