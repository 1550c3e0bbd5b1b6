"""What people read when a sign-in ended otherwise than they hoped: a title, and a next step."""

from __future__ import annotations

from typing import Final, NamedTuple

from providers.oauth.models import DeviceLogin


class Words(NamedTuple):
    title: str
    advice: str


_WORDS: Final[dict[str, Words]] = {
    "expired": Words(
        "The code ran out of time",
        "Codes live a few minutes only. Start again and finish at the provider without a pause.",
    ),
    "not_confirmed": Words(
        "The account was not confirmed in time",
        "Nobody said that it is the right one: its token was forgotten and nothing was connected. "
        "Start again and confirm within 15 minutes.",
    ),
    "denied": Words(
        "The sign-in was refused at the provider",
        "Start again and choose Allow there. If you did not refuse it yourself, somebody else may "
        "have opened the page.",
    ),
    "cancelled": Words("You cancelled this sign-in", "Nothing was connected."),
    "replaced": Words(
        "You started another sign-in",
        "Its code is the right one; this one is no longer used.",
    ),
    "device_flow_disabled": Words(
        "Signing in by code is switched off there",
        "For ChatGPT: Settings, Security, device code login; in a workspace its administrator "
        "switches it on. Elsewhere the application has to allow it.",
    ),
    "client_refused": Words(
        "The provider does not know this application",
        "A platform administrator has to correct the client id or secret in the login settings.",
    ),
    "code_used": Words(
        "Approved, but we could not save it",
        "The provider says that the code was used already. Start again.",
    ),
    "saved_failed": Words(
        "Approved, but we could not save it",
        "The connection broke while the provider handed out the token. Start again.",
    ),
    "exchange_failed": Words(
        "The provider did not hand out a token",
        "Start again; if it happens twice, tell a platform administrator.",
    ),
    "paste_again": Words(
        "The provider did not accept the code",
        "Codes work once and live a few minutes. Start again and paste the newest one.",
    ),
    "no_entitlement": Words(
        "This account has no subscription for this service",
        "Sign in with an account that has one, or ask its organisation for a seat.",
    ),
    "no_profile": Words(
        "The company has not given this account a subscription",
        "Ask the administrator of your organisation to assign one, or sign in with another "
        "organisation's start URL.",
    ),
    "suspended": Words(
        "The provider suspended this account",
        "Ask the provider about it, or sign in with another account; nothing was connected.",
    ),
    "project_required": Words(
        "This Google account needs a Cloud project",
        "Start again and give the id of a project of yours in which Gemini for Google Cloud is on.",
    ),
    "validation_required": Words(
        "Google wants to check the account first",
        "Open the address below, follow it through, then start again.",
    ),
    "import_dead": Words(
        "The imported sign-in has ended",
        "The other program may have renewed it since. Sign in here instead: both then keep theirs.",
    ),
    "wrong_client": Words(
        "The sign-in belongs to another application", "Sign in again here instead of importing."
    ),
    "invalid_start_url": Words(
        "AWS does not know this start URL in this region",
        "Ask your administrator for the start URL and the region of IAM Identity Center.",
    ),
    "provider_unreachable": Words(
        "No connection to the provider",
        "Check the outbound proxy and firewall, then start again.",
    ),
    "not_started": Words(
        "The provider did not begin the sign-in", "Wait a moment and start again."
    ),
    "discovery_failed": Words(
        "The provider's own description does not fit",
        "A platform administrator has to correct the issuer or the hosts in the login settings.",
    ),
    "unsafe_link": Words(
        "The provider sent an address that is not its own",
        "It was not shown. A platform administrator has to look at the login settings.",
    ),
    "no_token": Words(
        "The provider's answer held no token", "Start again; if it happens twice, report it."
    ),
    "revoked": Words("The provider took the sign-in back", "Start again."),
}
_ELSE: Final = Words(
    "The sign-in did not work", "Start again; if it happens twice, tell a platform administrator."
)


# So many that our own pace cannot be the reason.
_MANY_SLOW_DOWNS: Final = 4
_TOO_SLOW: Final = Words(
    "The code ran out of time",
    "The provider kept saying that it is asked too often. Start again; if it happens twice, a "
    "platform administrator has to look at this machine's clock, and at what else asks there.",
)
_AWAY: Final = (
    "The provider does not answer at the moment. You can approve it there meanwhile: we keep "
    "asking until the code ends."
)
_SLOW: Final = (
    "The provider asked us to look less often. Go on as before: it takes a little longer until "
    "this page notices."
)


def hint_for(login: DeviceLogin) -> str:
    """While it waits: what is in the way, and what to do about it. Empty = nothing is."""
    if login.status != DeviceLogin.Status.PENDING:
        return ""
    if login.failures:
        return _AWAY
    return _SLOW if login.slow_downs else ""


def words_for(login: DeviceLogin) -> Words:
    """Of a login that ended badly."""
    if login.error_code == "expired" and login.slow_downs >= _MANY_SLOW_DOWNS:
        return _TOO_SLOW
    return _WORDS.get(login.error_code) or _WORDS.get(login.status) or _ELSE
