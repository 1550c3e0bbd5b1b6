"""Sign-ins in a browser that end at an address or a code, which the person pastes. Pure.

PKCE throughout (RFC 7636), with a state that has nothing to do with the verifier: some clients
used one for both and so published the verifier in the address bar.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode, urlsplit

from providers.oauth.flows.login import Login
from providers.oauth.flows.wire import Ask, post


@dataclass(frozen=True, slots=True)
class Pasted:
    """`state` empty = none was pasted."""

    code: str = field(repr=False)
    state: str = field(repr=False, default="")


@dataclass(frozen=True, slots=True)
class BadPaste:
    """What was pasted is no code; the sentence says what to do."""

    code: str
    sentence: str


def challenge_of(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def authorize_url(login: Login, *, verifier: str, state: str, redirect_url: str) -> str:
    oauth = login.oauth
    query = {
        **oauth.parameters,
        "client_id": oauth.client_id,
        "response_type": "code",
        "redirect_uri": redirect_url,
        "scope": login.scope,
        "code_challenge": challenge_of(verifier),
        "code_challenge_method": "S256",
        "state": state,
    }
    if oauth.flow == "key_exchange":
        # OpenRouter knows no clients and no state: ours rides in the callback's own query.
        joint = "&" if "?" in redirect_url else "?"
        query = {
            "callback_url": f"{redirect_url}{joint}{urlencode({'state': state})}",
            "code_challenge": query["code_challenge"],
            "code_challenge_method": "S256",
        }
    kept = {name: value for name, value in query.items() if value}
    return f"{oauth.authorize_url}?{urlencode(kept)}"


def read_paste(pasted: str, *, state: str) -> Pasted | BadPaste:
    """A whole address, its query, `code#state`, or the bare code. A state that is there must be
    the one of this sign-in."""
    plain = "".join(pasted.split())
    if not plain or len(plain) > 4_096 or not plain.isprintable():
        return BadPaste("nothing_pasted", "Paste the code, or the whole address that you see.")
    found = _parts(plain)
    if "error" in found:
        return BadPaste("denied", "The page says that the sign-in was refused.")
    code, given = found.get("code", ""), found.get("state", "")
    if not code:
        return BadPaste(
            "nothing_pasted", "There is no code in this address: copy the one of the last page."
        )
    if given and not hmac.compare_digest(given.encode(), state.encode()):
        return BadPaste(
            "redirect_paste_mismatch",
            "This belongs to another sign-in: copy it again from the newest tab.",
        )
    return Pasted(code, given)


def _parts(plain: str) -> dict[str, str]:
    if "://" in plain:
        try:
            parts = urlsplit(plain)
        except ValueError:
            return {}
        return {**_query(parts.fragment), **_query(parts.query)}
    if plain.startswith("?") or "code=" in plain:
        return _query(plain.lstrip("?"))
    code, _, state = plain.partition("#")
    return {"code": code, "state": state} if state else {"code": code}


def _query(text: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(text).items()}


def exchange_ask(login: Login, *, code: str, verifier: str, state: str, redirect_url: str) -> Ask:
    """Code for tokens. Claude wants the state as well; the others would not know it."""
    oauth = login.oauth
    if oauth.flow == "key_exchange":
        fields: dict[str, object] = {
            "code": code,
            "code_verifier": verifier,
            "code_challenge_method": "S256",
        }
    else:
        fields = {
            "grant_type": "authorization_code",
            "client_id": oauth.client_id,
            "client_secret": login.client_secret.reveal(),
            "code": code,
            "redirect_uri": redirect_url,
            "code_verifier": verifier,
        }
    if oauth.dialect == "claude":
        fields["state"] = state
    # Codex' device login speaks JSON and its token endpoint a form.
    body = "form" if oauth.dialect == "codex" else oauth.body
    return post(oauth.token_url, fields, body=body, headers=login.headers)
