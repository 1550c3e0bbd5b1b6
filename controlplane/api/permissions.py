"""What is for platform staff alone. Who may what in a tenant is decided in tenants/access.py."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from tenants.access import is_staff


class IsPlatformStaff(BasePermission):
    message = "This is for platform staff, signed in as themselves."
    code = "staff_only"

    def has_permission(self, request: Request, view: Any) -> bool:
        return is_staff(request.user)
