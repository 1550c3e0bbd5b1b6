"""How people sign in, and how the console looks. Read by base."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from controlplane.settings import env

PRODUCT = "Provider Control Plane"
# Dates as 2026-01-31 14:05 everywhere: no guessing which number is the month.
FORMAT_MODULE_PATH = ["controlplane.console.formats"]

AUTHENTICATION_BACKENDS = ["controlplane.console.sign_in.backend.EmailBackend"]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "mfa_index"

# A day at work; the browser forgets sooner when it is closed, unless "remember me" was chosen.
SESSION_COOKIE_AGE = 12 * 60 * 60

# In the session, not in a cookie of their own.
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"

ACCOUNT_ADAPTER = "controlplane.console.sign_in.adapters.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_REAUTHENTICATION_TIMEOUT = 5 * 60
ACCOUNT_SESSION_REMEMBER = None
ACCOUNT_FORMS = {
    "login": "controlplane.console.sign_in.forms.LoginForm",
    "change_password": "controlplane.console.sign_in.forms.ChangePasswordForm",
}
# The library counts in the process's own cache. We count in rows: see sign_in/lockout.py.
ACCOUNT_RATE_LIMITS = False

MFA_ADAPTER = "controlplane.console.sign_in.adapters.FactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_ISSUER = PRODUCT
MFA_TOTP_TOLERANCE = 1
MFA_RECOVERY_CODES_SHOW_ONCE = True
# Nobody signs up, so there is no address to verify before a second factor may be added.
MFA_ALLOW_UNVERIFIED_EMAIL = True
MFA_FORMS = {
    "authenticate": "controlplane.console.sign_in.forms.CodeForm",
    "reauthenticate": "controlplane.console.sign_in.forms.CodeAgainForm",
    "add_webauthn": "controlplane.console.sign_in.forms.AddKeyForm",
    "activate_totp": "controlplane.console.sign_in.forms.ActivateAppForm",
}

# Single sign-on: one generic OpenID Connect provider, on when its address is set.
OIDC_SERVER_URL = env.text("OIDC_SERVER_URL")
OIDC_NAME = env.text("OIDC_NAME", "Single sign-on")
SOCIALACCOUNT_ADAPTER = "controlplane.console.sign_in.adapters.SingleSignOnAdapter"
SOCIALACCOUNT_EMAIL_AUTHENTICATION = True
SOCIALACCOUNT_EMAIL_AUTHENTICATION_AUTO_CONNECT = True
SOCIALACCOUNT_STORE_TOKENS = False
SOCIALACCOUNT_PROVIDERS: dict[str, Any] = {}
# The browser checks where a sign-in form may lead: the provider's page is allowed by name.
CONTENT_SECURITY_FORM_ACTIONS: list[str] = []
if OIDC_SERVER_URL:
    _parts = urlsplit(OIDC_SERVER_URL)
    if _parts.scheme != "https" or not _parts.hostname:
        raise ImproperlyConfigured(
            f"Set OIDC_SERVER_URL to the https address of the provider; it is {OIDC_SERVER_URL!r}."
        )
    CONTENT_SECURITY_FORM_ACTIONS = [f"https://{_parts.netloc}"]
    SOCIALACCOUNT_PROVIDERS = {
        "openid_connect": {
            "APPS": [
                {
                    "provider_id": "sso",
                    "name": OIDC_NAME,
                    "client_id": env.text("OIDC_CLIENT_ID"),
                    "secret": env.secret("OIDC_CLIENT_SECRET", minimum_length=16),
                    "settings": {"server_url": OIDC_SERVER_URL, "oauth_pkce_enabled": True},
                }
            ]
        }
    }
    if not SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"][0]["client_id"]:
        raise ImproperlyConfigured("Set OIDC_CLIENT_ID to the id your provider gave this service.")

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": PRODUCT,
    "SITE_HEADER": "Control plane",
    "SITE_SUBHEADER": "Providers, tenants, keys",
    "SITE_SYMBOL": "hub",
    "SITE_URL": None,
    "SITE_FAVICONS": [
        {
            "rel": "icon",
            "type": "image/svg+xml",
            "href": "controlplane.console.navigation.mark",
        }
    ],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "BORDER_RADIUS": "8px",
    "STYLES": ["controlplane.console.navigation.stylesheet"],
    "SIDEBAR": {
        "show_search": False,
        "command_search": False,
        "show_all_applications": False,
        "navigation": "controlplane.console.navigation.sidebar",
    },
    "ACCOUNT": {"navigation": "controlplane.console.navigation.account_links"},
    "COLORS": {
        "primary": {
            "50": "#eef6ff",
            "100": "#d9eaff",
            "200": "#bcdbff",
            "300": "#8ec5ff",
            "400": "#58a4ff",
            "500": "#2f80fb",
            "600": "#1d63e6",
            "700": "#184fc3",
            "800": "#1a439d",
            "900": "#1b3b7c",
            "950": "#15264b",
        },
    },
}
