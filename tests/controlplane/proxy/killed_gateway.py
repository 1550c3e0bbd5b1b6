"""A gateway in a process of its own: to be killed.

    python killed_gateway.py DATABASE_NAME

Prints its base URL once it answers.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings.test")
    import django

    django.setup()
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.db import connection

    from controlplane.proxy.lane_asgi import ProxyApplication
    from controlplane.proxy.state import GatewayState
    from tests.running import served

    # The database of the suite that started us, and its simulated vendors.
    connection.settings_dict["NAME"] = sys.argv[1]
    settings.UPSTREAM_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with served(ProxyApplication(get_asgi_application(), GatewayState())) as url:
        print(url, flush=True)
        # Until whoever started us is gone.
        sys.stdin.read()
