"""django-oauth-toolkit's device grant as a server of its own, with its own settings.

A program, not a test: prints the address it answers at, and runs until its input closes. The
person is played by paths under /person, which walk the toolkit's own pages.
"""

from __future__ import annotations

import os
import sys
import threading
from wsgiref.simple_server import WSGIRequestHandler, make_server

CLIENT_ID = "simulated-client"
BROWSER_CLIENT_ID = "simulated-browser-only"


def configure(folder: str) -> None:
    from django.conf import settings

    # oauthlib refuses plain HTTP otherwise; nothing here leaves this machine.
    os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"
    settings.configure(
        SECRET_KEY="of a test",
        ALLOWED_HOSTS=["127.0.0.1", "testserver"],
        ROOT_URLCONF="toolkit_site",
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "oauth2_provider",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        TEMPLATES=[
            {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}
        ],
        # The tables as the models are now; how they came to be so is of no interest here.
        MIGRATION_MODULES=dict.fromkeys(
            ("auth", "contenttypes", "sessions", "oauth2_provider"), None
        ),
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{folder}/db"}},
        USE_TZ=True,
        OAUTH2_PROVIDER={
            "OAUTH_DEVICE_VERIFICATION_URI": "http://127.0.0.1/o/device/",
            "SCOPES": {"openid": "who you are", "models": "use models"},
            "OAUTH2_BACKEND_CLASS": "toolkit_site.Backend",
            "OAUTH2_VALIDATOR_CLASS": "toolkit_site.Validator",
            "REFRESH_TOKEN_REUSE_PROTECTION": True,
        },
    )


def fill() -> None:
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from oauth2_provider.models import Application

    call_command("migrate", run_syncdb=True, verbosity=0)
    get_user_model().objects.create_user("ada", password="of a test")
    for client_id, grant in (
        (CLIENT_ID, Application.GRANT_DEVICE_CODE),
        (BROWSER_CLIENT_ID, Application.GRANT_AUTHORIZATION_CODE),
    ):
        Application.objects.create(
            name=client_id,
            client_id=client_id,
            client_type=Application.CLIENT_PUBLIC,
            authorization_grant_type=grant,
            redirect_uris="http://localhost/callback",
        )


class _Silent(WSGIRequestHandler):
    def log_message(self, *args: object) -> None:
        return


def main(folder: str) -> None:
    configure(folder)
    import django
    from django.core.wsgi import get_wsgi_application

    django.setup()
    fill()
    with make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=_Silent) as server:
        threading.Thread(target=lambda: (sys.stdin.read(), server.shutdown()), daemon=True).start()
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever(poll_interval=0.05)


if __name__ == "__main__":
    main(sys.argv[1])
