# syntax=docker/dockerfile:1
# Pin the base by digest in your own registry; the tag here names what it is tested with.
FROM python:3.12-slim-bookworm AS build

WORKDIR /app
ENV PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# Packages first: they change less often than the code.
COPY requirements.txt ./
RUN python -m venv .venv && .venv/bin/pip install --require-hashes -r requirements.txt

COPY manage.py ./
COPY controlplane controlplane
COPY providers providers
COPY tenants tenants
COPY templates templates
# Collecting reads the settings, which want secrets: throw-away ones, for this command alone.
RUN DJANGO_SETTINGS_MODULE=controlplane.settings.production ALLOWED_HOSTS=build.invalid \
    SECRET_KEY="$(python -c 'import secrets; print(secrets.token_urlsafe(48))')" \
    KEY_PEPPERS="$(python -c 'import secrets; print(secrets.token_urlsafe(48))')" \
    .venv/bin/python manage.py collectstatic --noinput \
    && .venv/bin/python -m compileall -q .venv controlplane providers tenants

FROM python:3.12-slim-bookworm

# A number, so that orchestrators can check that it is not root.
RUN useradd --system --uid 10001 --home-dir /state --create-home gateway
WORKDIR /app
COPY --from=build /app /app
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=controlplane.settings.production STATE_DIR=/state
USER 10001
VOLUME /state
EXPOSE 8000

HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-m", "controlplane.probe"]
ENTRYPOINT ["python", "manage.py"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
