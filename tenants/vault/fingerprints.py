"""How a secret is shown: by a mark that tells two apart and gives neither away."""

from __future__ import annotations

from django.utils.crypto import salted_hmac

from controlplane.kit.secret import Secret


def fingerprint(secret: Secret) -> str:
    """Twelve hex digits. Safe to show, log and keep: keyed with SECRET_KEY, so that nobody
    else can test guesses against it. A new SECRET_KEY changes every fingerprint."""
    digest = salted_hmac("tenants.vault.fingerprint", secret.reveal(), algorithm="sha256")
    return digest.hexdigest()[:12]
