"""A one-time code works once, whatever number of processes sees it at the same moment."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import IntegrityError, transaction

from controlplane.console.sign_in.models import SpentCode

# An authenticator app shows a code for 30 seconds; the same six digits may come again by chance
# later. Ten minutes is far beyond any clock tolerance.
_FORGET: Final = timedelta(minutes=10)


def spend(*, authenticator_id: int, code: str, now: datetime) -> bool:
    """Whether this is the code's first use. The row is the decision: it can be made once."""
    SpentCode.objects.filter(spent_at__lt=now - _FORGET).delete()
    digits = "".join(character for character in code if character.isalnum())
    digest = hmac.new(
        settings.SECRET_KEY.encode(),
        f"one-time-code:{authenticator_id}:{digits}".encode(),
        hashlib.sha256,
    ).hexdigest()
    try:
        with transaction.atomic():
            SpentCode.objects.create(digest=digest, spent_at=now)
    except IntegrityError:
        return False
    return True
