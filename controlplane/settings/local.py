"""One machine, plain HTTP on loopback: what `make run` uses."""

from controlplane import logs
from controlplane.settings import env
from controlplane.settings.base import *  # noqa: F403  (settings files are layers)

ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]", *ALLOWED_HOSTS]  # noqa: F405
SECURE_SSL_REDIRECT = False
SECURE_HSTS_SECONDS = 0
# `__Host-` and Secure need TLS, which loopback does not have.
SESSION_COOKIE_NAME = "session"
CSRF_COOKIE_NAME = "csrf"
SESSION_COOKIE_SECURE = False
CSRF_COOKIE_SECURE = False
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = True
SIMULATOR = env.flag("SIMULATOR", True)
# A person reads along, unless LOG_FORMAT says otherwise.
LOGGING = logs.configure(
    layout=env.choice("LOG_FORMAT", ("columns", "json")), level=env.choice("LOG_LEVEL", logs.LEVELS)
)

# Static files straight from where the packages keep them: nothing to collect before a start.
STATIC_ROOT = None
WHITENOISE_USE_FINDERS = True
STORAGES["staticfiles"] = {  # noqa: F405
    "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
}
