"""What the overview says about one's own sign-in."""

from __future__ import annotations

from allauth.mfa.utils import is_mfa_enabled
from django.http import HttpRequest
from django.urls import reverse

from controlplane.console import dashboard


@dashboard.step(order=90)
def second_factor(request: HttpRequest) -> dashboard.Step:
    return dashboard.Step(
        title="Protect your own account",
        text="This account opens everything. Add a passkey or an authenticator app.",
        url=reverse("mfa_index"),
        label="Add a second factor",
        is_done=is_mfa_enabled(request.user),
    )
