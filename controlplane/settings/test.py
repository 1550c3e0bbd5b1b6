"""The suite: SQLite unless DATABASE_URL says otherwise, fixed secrets, nothing shared."""

import atexit
import base64
import os
import secrets
import shutil
import tempfile
from pathlib import Path

# Throw-away values, made anew in each run: a test that needs a fixed one sets it itself.
# Child processes inherit them, and only the process that made the folder removes it.
if "STATE_DIR" not in os.environ:
    _state = tempfile.mkdtemp(prefix="pcp-test-")
    os.environ["STATE_DIR"] = _state
    atexit.register(shutil.rmtree, _state, ignore_errors=True)
    (Path(_state) / "secrets").mkdir(mode=0o700)
    (Path(_state) / "secrets" / "vault_keys").write_text(
        base64.b64encode(secrets.token_bytes(32)).decode()
    )
os.environ.setdefault("SECRET_KEY", secrets.token_urlsafe(48))
os.environ.setdefault("KEY_PEPPERS", secrets.token_urlsafe(48))

from controlplane.settings.base import *  # noqa: F403  (needs the variables above)

# Suites that run beside each other write each other's journals to their own database otherwise.
USAGE_JOURNAL_FOLDER = str(
    STATE_DIR / f"journal-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"  # noqa: F405
)

# SQLite in a file, as in production: threads that share an in-memory database fail with "table
# is locked" where a file makes them wait. A name of its own lets two suites run side by side.
DATABASES["default"]["TEST"] = {  # noqa: F405
    "NAME": STATE_DIR / "test.sqlite3"  # noqa: F405
    if DATABASES["default"]["ENGINE"].endswith("sqlite3")  # noqa: F405
    else STATE_DIR.name.replace("-", "_")  # noqa: F405
}

ALLOWED_HOSTS = ["testserver", "127.0.0.1", "localhost"]
SECURE_SSL_REDIRECT = False
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
# Looked for at each request: a middleware that is built for every test client scans no folders.
STATIC_ROOT = None
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = True
