"""What an ASGI server imports: the fast door in front of Django."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings.local")
_django = get_asgi_application()

from controlplane.proxy.lane_asgi import ProxyApplication  # noqa: E402  (needs Django set up)
from controlplane.proxy.state import GatewayState  # noqa: E402

application = ProxyApplication(_django, GatewayState())
