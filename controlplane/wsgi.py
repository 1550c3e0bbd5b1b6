"""What a WSGI server imports. ASGI serves streams better: see docs/deploy.md."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings.local")
application = get_wsgi_application()
