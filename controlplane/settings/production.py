"""Behind TLS. base is already safe; this only insists on what a deployment must say."""

from django.core.exceptions import ImproperlyConfigured

from controlplane.settings.base import *  # noqa: F403  (settings files are layers)

if not ALLOWED_HOSTS:  # noqa: F405
    raise ImproperlyConfigured("Set ALLOWED_HOSTS to the host names this service answers to.")
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
