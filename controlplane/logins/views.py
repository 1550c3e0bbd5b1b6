"""Start, wait, paste, confirm: each page reads rows; what changes anything is a POST."""

from __future__ import annotations

import functools
import hmac
import uuid
from collections.abc import Callable
from typing import Any, Concatenate, Final, ParamSpec, cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST, require_safe

from controlplane.console.sign_in.caller import caller_address
from controlplane.kit import clock
from controlplane.kit.errors import GatewayError
from controlplane.logins.offer import Offer, offer_of, offers
from controlplane.logins.qr import qr_data_uri
from controlplane.logins.setup import Setup, setup_of, setups, switch_on
from providers.oauth import quota, services
from providers.oauth.access import (
    access_login,
    access_login_credential,
    access_login_target,
    scope_of,
)
from providers.oauth.errors import BadPastedCode
from providers.oauth.imports import import_kiro
from providers.oauth.memory import recall
from providers.oauth.model_terms import has_terms
from providers.oauth.models import DeviceLogin
from providers.oauth.quota_chart import lines
from providers.oauth.states import next_action, shown_state
from providers.oauth.words import hint_for, words_for
from tenants import scope
from tenants.access import is_staff
from tenants.audit.actor import acting_as
from tenants.errors import NotFound, RoleForbidden
from tenants.members.models import User

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponse]
Status = DeviceLogin.Status

# How often a page without scripts looks again.
REFRESH_SECONDS: Final = 5


def page(view: View[P]) -> View[P]:
    """For people who are signed in, answering for what they do; never stored by browsers. What is
    not theirs is not there."""

    @functools.wraps(view)
    def answer(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        user = user_of(request)
        with acting_as("user", user.pk, user.email, caller_address(request)):
            try:
                return view(request, *args, **kwargs)
            except (NotFound, RoleForbidden) as error:
                raise Http404(error.message) from None

    return cast("View[P]", login_required(never_cache(answer)))


def user_of(request: HttpRequest) -> User:
    return cast(User, request.user)


@page
@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """What can be connected, and which sign-ins are open."""
    return render(
        request,
        "login/index.html",
        {
            "offers": offers(user_of(request)),
            "open_logins": services.open_logins(user_of(request)),
            "setups": setups() if is_staff(user_of(request)) else [],
        },
    )


@page
def start(request: HttpRequest, provider: str) -> HttpResponse:
    """GET: the choices. POST: the sign-in begins."""
    typed = {key: str(value) for key, value in request.POST.items()}
    wanted = typed.get("owner", "") or request.GET.get("owner", "")
    offer = offer_of(user_of(request), provider, wanted=wanted[:63], typed=typed)
    if offer is None or not offer.is_on:
        setup = setup_of(provider)
        if setup is not None and is_staff(user_of(request)):
            return _setup_page(request, setup)
        if offer is None and setup is not None:
            return render(request, "login/off.html", {"setup": setup}, status=404)
    if offer is None:
        raise Http404("Nothing here is yours to connect.")
    if request.method == "POST" and "token_file" in typed and offer.can_import:
        return _import(request, offer, typed)
    if request.method == "POST":
        return _begin(request, offer, typed)
    return _start_page(request, offer, typed)


def _setup_page(
    request: HttpRequest, setup: Setup, error: str = "", status: int = 200
) -> HttpResponse:
    return render(request, "login/setup.html", {"setup": setup, "error": error}, status=status)


@page
@require_POST
def switch_on_logins(request: HttpRequest, provider: str) -> HttpResponse:
    """The operator has read what the vendor says, and lets people sign in."""
    setup = setup_of(provider) if is_staff(user_of(request)) else None
    if setup is None:
        raise Http404("There is nothing to switch on here.")
    try:
        with scope.platform("switch logins on"):
            made = switch_on(setup, clock.now())
    except GatewayError as error:
        return _setup_page(request, setup, error.message, error.fault().http_status)
    messages.success(request, f"People can connect their {setup.name} accounts now.")
    return redirect(reverse("login-start", args=[made.slug]))


def _start_page(
    request: HttpRequest, offer: Offer, typed: dict[str, str], error: str = "", status: int = 200
) -> HttpResponse:
    chosen = (
        typed.get("way") or request.GET.get("way") or (offer.ways[0].name if offer.ways else "")
    )
    return render(
        request,
        "login/start.html",
        {
            "offer": offer,
            "chosen": chosen,
            "is_shared": typed.get("is_shared", ""),
            "error": error,
            "connected": _connected(offer),
            "has_terms": has_terms(offer.provider),
            "days": quota.SHOWN.days,
        },
        status=status,
    )


def _connected(offer: Offer) -> list[tuple[Any, ...]]:
    """Each account with its state, what to do, and what the vendor last said of its quota."""
    now = clock.now()
    with scope.platform("connected accounts of an offer"):
        return [
            (
                row,
                shown_state(row, now),
                next_action(row, now),
                quota.latest(row),
                lines(quota.history(row, now=now).items(), now=now, within=quota.SHOWN),
            )
            for row in offer.connected
        ]


def _begin(request: HttpRequest, offer: Offer, typed: dict[str, str]) -> HttpResponse:
    way = typed.get("way", "")
    is_personal = not typed.get("is_shared")
    tenant = offer.owner.tenant
    blanks = next((found.blanks for found in offer.ways if found.name == way), [])
    inputs = {
        blank.identifier: typed.get(blank.name, "").strip()
        for blank in blanks
        if typed.get(blank.name, "").strip()
    }
    try:
        provider = access_login_target(
            user_of(request),
            tenant.pk if tenant is not None else None,
            offer.provider.pk,
            is_personal=is_personal,
        )
        with scope.tenant(tenant.pk) if tenant is not None else scope.platform("login"):
            login = services.begin(
                user=user_of(request),
                tenant=tenant,
                provider=provider,
                way=way,
                inputs=inputs,
                is_personal=is_personal,
                address=caller_address(request),
                callback_url=_callback_url(request, offer.provider.slug),
                now=clock.now(),
            )
    except NotFound:
        raise
    except ValidationError as error:
        return _start_page(request, offer, typed, " ".join(error.messages), 400)
    except GatewayError as error:
        fault = error.fault()
        return _start_page(request, offer, typed, fault.message, fault.http_status)
    return redirect(page_of(provider.slug, login))


def _import(request: HttpRequest, offer: Offer, typed: dict[str, str]) -> HttpResponse:
    """A login that another program made, from the files it keeps it in."""
    tenant = offer.owner.tenant
    try:
        provider = access_login_target(
            user_of(request),
            tenant.pk if tenant is not None else None,
            offer.provider.pk,
            is_personal=True,
        )
        with scope.tenant(tenant.pk) if tenant is not None else scope.platform("login"):
            login = import_kiro(
                user=user_of(request),
                tenant=tenant,
                provider=provider,
                token_file=typed["token_file"],
                client_file=typed.get("client_file", ""),
                address=caller_address(request),
                now=clock.now(),
            )
    except NotFound:
        raise
    except GatewayError as error:
        # The files hold tokens: they are not shown again.
        shown = {k: v for k, v in typed.items() if k not in ("token_file", "client_file")}
        return _start_page(request, offer, shown, error.message, error.fault().http_status)
    return redirect(page_of(provider.slug, login))


def _callback_url(request: HttpRequest, slug: str) -> str:
    return request.build_absolute_uri(reverse("login-callback", args=[slug]))


def page_of(slug: str, login: DeviceLogin) -> str:
    return reverse("login-page", args=[slug, login.pk])


def _login(request: HttpRequest, provider: str, login_id: uuid.UUID) -> DeviceLogin:
    """An address names both, and both have to be right."""
    login = access_login(user_of(request), login_id)
    if login.provider.slug != provider:
        raise NotFound("There is nothing here under this id.")
    return login


@page
@require_safe
def wait(request: HttpRequest, provider: str, login_id: uuid.UUID) -> HttpResponse:
    login = _login(request, provider, login_id)
    return _wait_page(request, login)


def _wait_page(
    request: HttpRequest, login: DeviceLogin, error: str = "", status: int = 200
) -> HttpResponse:
    with scope_of(login):
        context: dict[str, Any] = {
            "login": login,
            "status_url": reverse("login-status", args=[login.provider.slug, login.pk]),
            "seconds_left": seconds_left(login),
            "refresh_seconds": REFRESH_SECONDS,
            "error": error,
            "owner": login.tenant.name if login.tenant is not None else "The platform",
            "client_name": services.CLIENT_NAME,
            "has_terms": has_terms(login.provider),
            "hint": hint_for(login),
        }
        if login.status == Status.PENDING and login.is_pasted:
            context["authorize_url"] = services.authorize_url(login)
        elif login.status == Status.PENDING:
            link = login.verification_uri_complete or login.verification_uri
            context["qr"] = qr_data_uri(link)
            context["link"] = link
            context["spelled"] = " ".join(login.user_code)
    if not login.is_open and login.status != Status.COMPLETED:
        context["words"] = words_for(login)
    return render(request, "login/wait.html", context, status=status)


def seconds_left(login: DeviceLogin) -> int:
    return max(0, int((login.expires_at - clock.now()).total_seconds()))


@page
@require_GET
def status(request: HttpRequest, provider: str, login_id: uuid.UUID) -> HttpResponse:
    """What the page's script asks: our row, and never the vendor."""
    login = _login(request, provider, login_id)
    return JsonResponse(
        {
            "status": login.status,
            "label": str(login.state.label),
            "is_open": login.is_open,
            "seconds_left": seconds_left(login),
            "account": login.account_label,
            "hint": hint_for(login),
        }
    )


@page
@require_POST
def paste(request: HttpRequest, provider: str, login_id: uuid.UUID) -> HttpResponse:
    login = _login(request, provider, login_id)
    try:
        with scope_of(login):
            services.hand_in(login, request.POST.get("code", ""), now=clock.now())
    except BadPastedCode as error:
        return _wait_page(request, login, error.message, 400)
    except GatewayError as error:
        messages.error(request, error.message)
    return redirect(page_of(provider, login))


@page
@require_POST
def cancel(request: HttpRequest, provider: str, login_id: uuid.UUID) -> HttpResponse:
    login = _login(request, provider, login_id)
    with scope_of(login):
        services.cancel(login, now=clock.now())
    return redirect(page_of(provider, login))


@page
@require_POST
def confirm(request: HttpRequest, provider: str, login_id: uuid.UUID) -> HttpResponse:
    login = _login(request, provider, login_id)
    try:
        with scope_of(login):
            services.confirm(login, now=clock.now())
    except GatewayError as error:
        messages.error(request, error.message)
    return redirect(page_of(provider, login))


@page
@require_POST
def again(request: HttpRequest, provider: str, login_id: uuid.UUID) -> HttpResponse:
    """The same once more, for who may still do so."""
    former = _login(request, provider, login_id)
    try:
        access_login_target(
            user_of(request),
            former.tenant_id,
            former.provider_id,
            is_personal=former.is_personal,
        )
        with scope_of(former):
            login = services.start_again(
                former,
                user=user_of(request),
                address=caller_address(request),
                callback_url=_callback_url(request, former.provider.slug),
                now=clock.now(),
            )
    except NotFound:
        raise
    except GatewayError as error:
        messages.error(request, error.message)
        return redirect(page_of(provider, former))
    return redirect(page_of(provider, login))


@page
@require_POST
def disconnect(request: HttpRequest, provider: str, credential_id: uuid.UUID) -> HttpResponse:
    credential = access_login_credential(user_of(request), credential_id)
    with scope_of(credential):
        is_told = services.disconnect(credential)
    name = credential.account_label or credential.label
    rest = "" if is_told else " End it in the account's own settings there too, to be sure."
    messages.success(request, f"{name} is disconnected here.{rest}")
    return redirect("login-start", provider=provider)


@page
@require_GET
def callback(request: HttpRequest, provider: str) -> HttpResponse:
    """Where a vendor sends the browser back to. The state in the address belongs to a sign-in of
    this very person, or nothing happens."""
    given = request.GET.get("state", "")[:200].encode()
    for login in services.open_logins(user_of(request)):
        if not login.is_pasted or login.status != Status.PENDING:
            continue
        if login.provider.slug != provider:
            continue
        with scope_of(login):
            known = recall(login).state.encode()
            if not given or not hmac.compare_digest(known, given):
                continue
            try:
                services.hand_in(login, request.META.get("QUERY_STRING", ""), now=clock.now())
            except GatewayError as error:
                messages.error(request, error.message)
        # The code leaves the address bar with this.
        return redirect(page_of(provider, login))
    raise Http404("This sign-in is not known.")
