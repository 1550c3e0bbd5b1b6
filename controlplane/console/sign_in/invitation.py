"""Where somebody who was invited, and has signed in, pastes what they were given."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse

from controlplane.console.sign_in.caller import caller_address
from controlplane.kit.errors import GatewayError
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.members.invitations import accept
from tenants.members.models import Tenant, User


class TokenForm(forms.Form):
    token = forms.CharField(
        label="Invitation",
        max_length=200,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )


@login_required
def invitation(request: HttpRequest) -> HttpResponse:
    form = TokenForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        user = request.user
        assert isinstance(user, User)
        try:
            with (
                acting_as("user", user.pk, user.email, caller_address(request)),
                transaction.atomic(),
            ):
                membership = accept(token=form.cleaned_data["token"], user=user)
        except GatewayError as error:
            form.add_error("token", error.message)
        else:
            with scope.platform("name the tenant that was joined"):
                tenant = Tenant.objects.get(pk=membership.tenant_id)
            role = membership.get_role_display().lower()
            messages.success(request, f"You belong to {tenant.name} now, as {role}.")
            return HttpResponseRedirect(reverse("mfa_index"))
    return render(request, "account/invitation.html", {"form": form})
