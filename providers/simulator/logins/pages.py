"""The pages on which a person approves a sign-in: plain HTML, one style sheet inside, no script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Final
from urllib.parse import urlsplit

from providers.simulator.http import Response, html_response
from providers.simulator.logins.accounts import ACCOUNTS, DEFAULT_ACCOUNT
from providers.simulator.logins.state import Attempt


@dataclass(frozen=True, slots=True)
class Look:
    name: str
    # `data-look` of the page; the style sheet gives each a colour.
    slug: str


LOOKS: Final[dict[str, Look]] = {
    "github": Look("GitHub", "github"),
    "aws-oidc": Look("AWS", "aws"),
    "kiro": Look("Kiro", "kiro"),
    "codex": Look("OpenAI", "openai"),
    "claude": Look("Claude", "claude"),
    "google": Look("Google", "google"),
    "kimi": Look("Kimi", "kimi"),
    "xai": Look("xAI", "xai"),
    "kilo": Look("Kilo", "kilo"),
    "openrouter": Look("OpenRouter", "openrouter"),
    "rfc8628": Look("Example accounts", "example"),
}

_STYLE: Final = """
:root{color-scheme:light dark;--accent:#1f6feb}
[data-look=github]{--accent:#1f883d}[data-look=aws]{--accent:#b45309}
[data-look=kiro]{--accent:#7c3aed}[data-look=openai]{--accent:#0f766e}
[data-look=claude]{--accent:#b4532a}[data-look=google]{--accent:#1a73e8}
[data-look=kimi]{--accent:#0e7490}[data-look=xai]{--accent:#475569}
[data-look=kilo]{--accent:#a16207}[data-look=openrouter]{--accent:#4f46e5}
body{margin:0;font:1rem/1.5 system-ui,sans-serif;background:Canvas;color:CanvasText}
main{max-width:30rem;margin:0 auto;padding:1.5rem 1rem}
h1{font-size:1.4rem;border-bottom:.25rem solid var(--accent);padding-bottom:.5rem}
.simulated{font-size:.9rem;border:1px dashed;padding:.5rem .75rem;border-radius:.4rem}
.code{font:600 2rem/1.2 ui-monospace,monospace;letter-spacing:.1em;overflow-wrap:anywhere}
.long{font:1rem/1.4 ui-monospace,monospace;width:100%;box-sizing:border-box;padding:.5rem}
fieldset{border:1px solid;border-radius:.4rem;margin:1rem 0;padding:.5rem .75rem}
label{display:block;padding:.35rem 0}small{opacity:.8}
button{font:inherit;padding:.6rem 1.2rem;margin:0 .5rem .5rem 0;border-radius:.4rem;
border:1px solid var(--accent);background:Canvas;color:CanvasText;cursor:pointer}
button.yes{background:var(--accent);color:#fff}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


def type_code(look: Look, sentence: str = "", status: int = 200) -> Response:
    """Where the person types what the device shows."""
    note = f'<p role="alert">{escape(sentence)}</p>' if sentence else ""
    body = f"""{note}<form method="get">
<label for="user_code">Enter the code that your device shows</label>
<input id="user_code" name="user_code" class="long" required autocomplete="off" autofocus>
<p><button class="yes">Continue</button></p></form>"""
    return _page(look, "Connect a device", body, status)


def ask(look: Look, attempt: Attempt) -> Response:
    """Approve or deny, and as whom."""
    if attempt.kind == "device":
        what = "device"
        shown = (
            f"<p>Check that your device shows this code:</p>"
            f'<p class="code" id="shown-code">{escape(attempt.user_code)}</p>'
            "<p>Only continue if you started this sign-in yourself.</p>"
        )
        hidden = _hidden("user_code", attempt.user_code)
    else:
        what = "application"
        shown = ""
        hidden = _hidden("login", attempt.id)
    accounts = "".join(
        f'<label><input type="radio" name="account" value="{name}"'
        f"{' checked' if name == DEFAULT_ACCOUNT else ''}> "
        f"{escape(account.full_name)} <small>{escape(account.email)}, "
        f"{escape(account.summary)}</small></label>"
        for name, account in ACCOUNTS.items()
    )
    scopes = "".join(f"<li>{escape(scope)}</li>" for scope in attempt.scope.split())
    wants = f"<p>It asks for:</p><ul>{scopes}</ul>" if scopes else ""
    body = f"""{shown}<p>The {what} <strong>{escape(attempt.client_name)}</strong> wants to sign in
to your account.</p>{wants}<form method="post">{hidden}
<fieldset><legend>Account</legend>{accounts}</fieldset>
<button class="yes" name="decision" value="approve">Approve</button>
<button name="decision" value="deny">Deny</button></form>"""
    return _page(look, "Approve a sign-in", body, redirect_uri=attempt.redirect_uri)


def show_code(look: Look, text: str) -> Response:
    """What the person copies and pastes where the sign-in began."""
    body = f"""<p><label for="code">Copy this text and paste it where you began.</label></p>
<input id="code" class="long" readonly value="{escape(text)}">"""
    return _page(look, "Your code", body)


def say(look: Look, title: str, sentence: str, status: int = 200) -> Response:
    return _page(look, title, f'<p role="status">{escape(sentence)}</p>', status)


def _hidden(name: str, value: str) -> str:
    return f'<input type="hidden" name="{name}" value="{escape(value)}">'


def _page(look: Look, title: str, body: str, status: int = 200, redirect_uri: str = "") -> Response:
    response = html_response(
        f"""<!doctype html>
<html lang="en" data-look="{look.slug}"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>{escape(title)} – {escape(look.name)} (simulated)</title>
<style>{_STYLE}</style></head>
<body><main><h1>{escape(look.name)}: {escape(title)}</h1>
<p class="simulated">This is a simulation. No account of {escape(look.name)} is involved.</p>
{body}</main></body></html>""",
        status,
    )
    response.headers |= _guarded(redirect_uri)
    return response


def _guarded(redirect_uri: str) -> Mapping[str, str]:
    # Browsers also hold the redirect after a form against form-action.
    parts = urlsplit(redirect_uri)
    target = f" {parts.scheme}://{parts.netloc}" if parts.netloc else ""
    return {
        "content-security-policy": (
            f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
            f"form-action 'self'{target}; base-uri 'none'; frame-ancestors 'none'"
        ),
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }
