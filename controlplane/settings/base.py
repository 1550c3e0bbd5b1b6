"""Safe for production. The other files are differences of a few lines."""

from __future__ import annotations

from pathlib import Path

from controlplane import logs
from controlplane.settings import database, env, paths
from controlplane.settings.console import *  # noqa: F403  (how people sign in; the theme)

BASE_DIR = paths.BASE_DIR
STATE_DIR = paths.STATE_DIR

DEBUG = False
SECRET_KEY = env.secret("SECRET_KEY", fallback_file=paths.MADE_AT_FIRST_START["SECRET_KEY"])
KEY_PEPPERS = env.secret(
    "KEY_PEPPERS", fallback_file=paths.MADE_AT_FIRST_START["KEY_PEPPERS"]
).split(",")
VAULT_KEYS_FILE = Path(env.text("VAULT_KEYS_FILE") or paths.SECRETS_DIR / "vault_keys")
VAULT_PROVIDER = env.text("VAULT_PROVIDER", "file")
VAULT_KEYS = env.text("VAULT_KEYS")
HASHICORP_VAULT_URL = env.text("HASHICORP_VAULT_URL")
HASHICORP_VAULT_TOKEN = env.text("HASHICORP_VAULT_TOKEN")
HASHICORP_VAULT_TOKEN_FILE = env.text("HASHICORP_VAULT_TOKEN_FILE")
HASHICORP_VAULT_TRANSIT_KEY = env.text("HASHICORP_VAULT_TRANSIT_KEY")
HASHICORP_VAULT_TRANSIT_MOUNT = env.text("HASHICORP_VAULT_TRANSIT_MOUNT", "transit")
HASHICORP_VAULT_NAMESPACE = env.text("HASHICORP_VAULT_NAMESPACE")
HASHICORP_VAULT_CA_FILE = env.text("HASHICORP_VAULT_CA_FILE")
AWS_KMS_KEY_ID = env.text("AWS_KMS_KEY_ID")
AWS_KMS_REGION = env.text("AWS_KMS_REGION")
AWS_KMS_ENDPOINT_URL = env.text("AWS_KMS_ENDPOINT_URL")

ALLOWED_HOSTS = env.words("ALLOWED_HOSTS")
PUBLIC_URL = env.text("PUBLIC_URL")
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL] if PUBLIC_URL else []
# Only these may speak for a caller's address (X-Forwarded-For); empty = nobody.
TRUSTED_PROXIES = env.words("TRUSTED_PROXIES")

INSTALLED_APPS = [
    "controlplane.apps.ControlPlaneConfig",
    "controlplane.console.apps.ConsoleConfig",
    "unfold.apps.BasicAppConfig",
    "controlplane.console.apps.ConsoleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "controlplane.kit.jobs.apps.JobsConfig",
    "tenants.apps.TenantsConfig",
    "providers.apps.ProvidersConfig",
]

MIDDLEWARE = [
    "controlplane.request_id.request_id",
    "controlplane.security_headers.security_headers",
    "django.middleware.security.SecurityMiddleware",
    "controlplane.static_files.StaticFilesMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    # Innermost, and synchronous like every view behind it. Under ASGI all of the above then run
    # synchronously too, with three changes of thread for a request; otherwise each makes two.
    "controlplane.console.sign_in.first_password.FirstPasswordMiddleware",
]

ROOT_URLCONF = "controlplane.urls"
ASGI_APPLICATION = "controlplane.asgi.application"
WSGI_APPLICATION = "controlplane.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": database.from_url(env.address("DATABASE_URL"), STATE_DIR)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# What may vanish: shared counters, wake-ups. Empty = the embedded mode without Redis.
REDIS_URL = env.address("REDIS_URL")

AUTH_USER_MODEL = "tenants.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

# Letters about limits and the ledger; empty host = none are sent, the console shows them.
EMAIL_HOST = env.text("EMAIL_HOST")
EMAIL_PORT = env.integer("EMAIL_PORT", 587, minimum=1)
EMAIL_HOST_USER = env.text("EMAIL_HOST_USER")
EMAIL_HOST_PASSWORD = env.optional_secret("EMAIL_HOST_PASSWORD")
EMAIL_USE_TLS = env.flag("EMAIL_USE_TLS", True)
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.text("EMAIL_FROM", "control-plane@localhost")

# Private networks that providers may live in: `10.1.0.0/16`, `127.0.0.1:11434`. The first is
# for what the platform registers, the second for what tenants do. Everything else is refused.
UPSTREAM_ALLOWED_NETWORKS = env.words("UPSTREAM_ALLOWED_NETWORKS")
UPSTREAM_ALLOWED_NETWORKS_FOR_TENANTS = env.words("UPSTREAM_ALLOWED_NETWORKS_FOR_TENANTS")
# Where credentials of the platform may be kept other than here. Nothing is open unless listed.
SECRET_VARIABLES = env.words("SECRET_VARIABLES")
SECRET_FOLDERS = env.words("SECRET_FOLDERS")
SECRET_COMMANDS = env.as_commands("SECRET_COMMANDS", env.text("SECRET_COMMANDS"))
AWS_SECRETS_REGION = env.text("AWS_SECRETS_REGION")
AWS_SECRETS_ENDPOINT_URL = env.text("AWS_SECRETS_ENDPOINT_URL")
# How often each registration is checked; 0 = never by itself. And how long results are kept.
PROVIDER_HEALTH_MINUTES = env.integer("PROVIDER_HEALTH_MINUTES", 15, minimum=0)
PROVIDER_HEALTH_KEEP_DAYS = env.integer("PROVIDER_HEALTH_KEEP_DAYS", 14, minimum=1)
# How often registrations ask their providers which models there are; 0 = never by itself. And a
# models.dev-shaped file of facts, by address or path, that is looked at on the way.
CATALOG_REFRESH_HOURS = env.integer("CATALOG_REFRESH_HOURS", 0, minimum=0)
CATALOG_FACTS_SOURCE = env.text("CATALOG_FACTS_SOURCE")
# Requests that ask a provider, per gateway process: all, and of one tenant. 0 = no bound.
PROXY_MOST_UNDER_WAY = env.integer("PROXY_MOST_UNDER_WAY", 1000)
PROXY_TOTAL_TIMEOUT_SECONDS = env.integer("PROXY_TOTAL_TIMEOUT_SECONDS", 3600)
PROXY_MOST_UNDER_WAY_PER_TENANT = env.integer("PROXY_MOST_UNDER_WAY_PER_TENANT", 0)
# Of which requests the decision is kept, and for how long.
ROUTING_TRACES = env.choice("ROUTING_TRACES", ("all", "failures", "off"))
ROUTING_TRACE_KEEP_DAYS = env.integer("ROUTING_TRACE_KEEP_DAYS", 7, minimum=1)
# How long alerts and usage events are kept. Events are dropped from the oldest end of a chain, once
# they are rolled up; 0 = never.
ALERT_KEEP_DAYS = env.integer("ALERT_KEEP_DAYS", 400, minimum=31)
USAGE_KEEP_DAYS = env.days_or_never("USAGE_KEEP_DAYS", minimum=62)
# Where usage is kept while the database is away, and how much of it per process; 0 = none is, and
# nothing is let in meanwhile.
USAGE_JOURNAL_FOLDER = env.text("USAGE_JOURNAL_FOLDER") or str(STATE_DIR / "journal")
USAGE_JOURNAL_LIMIT_BYTES = env.integer("USAGE_JOURNAL_LIMIT_BYTES", 64 * 1024 * 1024)
# What must hold of the routes, asked when aliases and policies change (docs/routing.md).
ROUTING_TESTS_FILE = env.text("ROUTING_TESTS_FILE")
ROUTING_TESTS_ON_SAVE = env.choice("ROUTING_TESTS_ON_SAVE", ("block", "warn"))
# Whether the gateway plays the simulated vendors under /simulator: first runs and rehearsals.
SIMULATOR = env.flag("SIMULATOR", False)
PROXY_BODY_LIMIT_BYTES = env.integer("PROXY_BODY_LIMIT_BYTES", 32 * 1024 * 1024, minimum=1024)
# The same for routes that take files (pictures, sound, uploads).
PROXY_UPLOAD_LIMIT_BYTES = env.integer("PROXY_UPLOAD_LIMIT_BYTES", 64 * 1024 * 1024, minimum=1024)
# How long answers are kept that callers of /v1/responses asked to be stored.
STORED_RESPONSES_HOURS = env.integer("STORED_RESPONSES_HOURS", 24 * 30, minimum=1)
# Requests with an Idempotency-Key: how long their outcome is kept, how large it may be, and for how
# long one goes on whose callers have all left.
IDEMPOTENCY_HOURS = env.integer("IDEMPOTENCY_HOURS", 24, minimum=1)
IDEMPOTENCY_LIMIT_BYTES = env.integer("IDEMPOTENCY_LIMIT_BYTES", 8 * 1024 * 1024, minimum=1024)
IDEMPOTENCY_FINISH_SECONDS = env.integer("IDEMPOTENCY_FINISH_SECONDS", 300, minimum=0)
# What one gateway process answers at a time; more is refused at once. 0 = no limit.
PROXY_MAX_CONCURRENT_REQUESTS = env.integer("PROXY_MAX_CONCURRENT_REQUESTS", 2000, minimum=0)
# A stream that is silent for so long gets a sign of life; 0 = never.
PROXY_KEEP_ALIVE_SECONDS = env.integer("PROXY_KEEP_ALIVE_SECONDS", 15, minimum=0)

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT: Path | None = BASE_DIR / "staticfiles"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

SESSION_COOKIE_NAME = "__Host-session"
CSRF_COOKIE_NAME = "__Host-csrf"
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
SESSION_COOKIE_HTTPONLY = True
CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
SECURE_SSL_REDIRECT = env.flag("SECURE_SSL_REDIRECT", True)
SECURE_HSTS_SECONDS = env.integer("SECURE_HSTS_SECONDS", 31_536_000)
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "no-referrer"
X_FRAME_OPTIONS = "DENY"

# What holds for every view of the control API alone stands in controlplane/api/view.py.
REST_FRAMEWORK = {
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "EXCEPTION_HANDLER": "controlplane.api.errors.handle",
    "URL_FORMAT_OVERRIDE": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Provider Control Plane",
    "DESCRIPTION": "Manage LLM providers, tenants, keys and quotas; call every provider.",
    "VERSION": "1.0.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "TAGS": [
        {"name": "tenants", "description": "Who the platform serves."},
        {"name": "members", "description": "Who belongs to a tenant, and as what."},
        {"name": "keys", "description": "A tenant's API keys."},
        {"name": "providers", "description": "Which providers there are, and how they fare."},
        {"name": "models", "description": "What they offer, and under which names."},
        {"name": "credentials", "description": "Whose keys reach them: written, never read."},
        {"name": "logins", "description": "Accounts of people, connected by signing in."},
        {"name": "aliases", "description": "Names for pools of models."},
        {"name": "limits", "description": "How much may be used, by whom, of what."},
        {"name": "usage", "description": "What was used and what it cost: a ledger."},
        {"name": "audit", "description": "Who changed what, chained and verifiable."},
        {"name": "proxy", "description": "Calling models, in the dialect of your client."},
    ],
    "COMPONENT_SPLIT_REQUEST": True,
    "PATH_CONVERTER_OVERRIDES": {"row_id": {"type": "string", "format": "uuid"}},
    "ENUM_NAME_OVERRIDES": {
        "TenantStatus": "tenants.members.models.Tenant.Status",
        "Role": "tenants.members.models.Membership.Role",
        "KeyScope": "tenants.keys.models.KeyScope",
        "KeyState": "tenants.keys.models.ApiKey.State",
        "LimitScopeKind": "tenants.quotas.models.Limit.ScopeKind",
        "LimitKind": "tenants.quotas.models.Limit.Kind",
        "LimitPeriod": "tenants.quotas.models.Limit.Period",
        "LimitWindow": "tenants.quotas.models.Limit.Window",
        "LimitMode": "tenants.quotas.models.Limit.Mode",
        "UsageEntry": "tenants.usage.models.UsageEvent.Entry",
        "UsageSource": "tenants.usage.models.UsageEvent.Source",
        "ActorKind": "tenants.audit.models.AuditEvent.ActorKind",
        "ProviderKind": "providers.catalog.models.Provider.Kind",
        "ModelOrigin": "providers.catalog.models.ProviderModel.Origin",
        "ErrorRuleAction": "providers.routing.models.ErrorRule.Action",
        "CredentialKind": "providers.credentials.models.Credential.Kind",
        "CredentialSource": "providers.credentials.models.Credential.Source",
        "CredentialState": "providers.credentials.models.Credential.State",
        "AlertKind": "tenants.alerts.kinds.AlertKind",
        "AlertChosenKind": "tenants.alerts.kinds.CHOICES",
        "AlertChannel": "tenants.alerts.models.Channel",
        "DeliveryState": "tenants.alerts.models.AlertDelivery.State",
        "Strategy": "providers.routing.models.Strategy",
        "Standing": "providers.health.models.Standing",
        "LoginStatus": "providers.oauth.models.DeviceLogin.Status",
        "ConnectionEvent": "providers.credentials.events.CredentialEvent.Kind",
        "QuotaUnit": "providers.oauth.models.QuotaSnapshot.Unit",
        "CheckFinding": "providers.health.models.Finding",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "controlplane.api.schema.describe_errors",
    ],
    "APPEND_COMPONENTS": {
        "securitySchemes": {
            "tenantKey": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "pcp_live_…",
                "description": "A tenant's API key with the scope `proxy`. The dialects' own "
                "headers (x-api-key, api-key, x-goog-api-key) work as well.",
            }
        }
    },
}

LOGGING = logs.configure(
    layout=env.choice("LOG_FORMAT", logs.LAYOUTS), level=env.choice("LOG_LEVEL", logs.LEVELS)
)
# Celery would print the same lines again in a format of its own.
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_REDIRECT_STDOUTS = False

CELERY_BROKER_URL = REDIS_URL or "memory://localhost"
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_RESULT_BACKEND = None
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_TASK_ACKS_LATE = True
CELERY_TIMEZONE = "UTC"
# Jobs that run at the same time in one background process (threads) or worker (processes).
WORKER_CONCURRENCY = env.integer("WORKER_CONCURRENCY", 4, minimum=1)

# Who sends it sees the details of /ready. Empty = nobody does.
METRICS_TOKEN = env.optional_secret("METRICS_TOKEN")
# Probes come by plain HTTP from the same machine.
SECURE_REDIRECT_EXEMPT = [r"^health$", r"^ready$"]

# Last: by now every variable of our own was read, and none of them may be listed.
SECRET_VALUES = env.values_of("SECRET_VARIABLES", SECRET_VARIABLES)
