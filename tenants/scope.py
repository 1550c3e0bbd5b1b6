"""For whom the current code acts. Tenant-owned rows cannot be touched without saying so.

    with scope.tenant(tenant_id): ...     only that tenant's rows
    with scope.platform("sweep"): ...     all rows; the word says why, for the reader

The scope lives in a context variable: it follows `await` and `sync_to_async`, a new thread
starts without one. Never hold a scope across the `yield` of a generator: the consumer would
run inside it.

Three nets, each catching what slips through the one before:

1. every queryset of a TenantOwned model filters by the scope when its SQL is made, so one
   built early (a form field, a class attribute) or in another scope asks again, for today's;
2. an object of another tenant cannot be loaded, inserted, moved or deleted, whichever way
   it was reached (select_related, raw, bulk writes, the base manager);
3. SQL that names a tenant-owned table outside a scope is refused on the connection, and on
   PostgreSQL row-level security repeats the scope there (tenants/row_security.py).
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeVar

from django.core.exceptions import FullResultSet
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql.compiler import SQLCompiler

from controlplane.kit.models import Row
from tenants.errors import NoScope


@dataclass(frozen=True, slots=True)
class Scope:
    """tenant_id None = the platform: every tenant's rows."""

    tenant_id: uuid.UUID | None
    reason: str = ""

    def covers(self, tenant_id: uuid.UUID | None) -> bool:
        return self.tenant_id is None or self.tenant_id == tenant_id


_current: ContextVar[Scope | None] = ContextVar("tenant_scope", default=None)


def current() -> Scope | None:
    return _current.get()


def required(what: str) -> Scope:
    """The current scope. Raises NoScope, naming `what` was touched, where there is none."""
    scope = _current.get()
    if scope is None:
        raise NoScope(f"{what} was touched outside a tenant scope.")
    return scope


@contextlib.contextmanager
def tenant(tenant_id: uuid.UUID) -> Iterator[None]:
    # None would silently mean the platform: a missing id must never widen what is seen.
    if not isinstance(tenant_id, uuid.UUID):
        raise TypeError(f"A tenant scope needs a UUID, not {type(tenant_id).__name__}.")
    token = _current.set(Scope(tenant_id))
    try:
        yield
    finally:
        _current.reset(token)


@contextlib.contextmanager
def platform(reason: str) -> Iterator[None]:
    if not reason:
        raise ValueError("Say why this code may see every tenant's rows.")
    token = _current.set(Scope(None, reason))
    try:
        yield
    finally:
        _current.reset(token)


class InScope(models.Func):
    """A condition on the tenant column, decided each time the SQL is made."""

    output_field = models.BooleanField()

    def as_sql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, *_: Any, **__: Any
    ) -> tuple[str, tuple[Any, ...]]:
        column = self.get_source_expressions()[0]
        field = column.target
        scope = required(field.model.__name__)
        if scope.tenant_id is None:
            raise FullResultSet  # Django's word for "no condition"
        sql, params = compiler.compile(column)
        value = field.get_db_prep_value(scope.tenant_id, connection, prepared=False)
        if field.model.shows_platform_rows:
            return f"({sql} = %s OR {sql} IS NULL)", (*params, value, *params)
        return f"{sql} = %s", (*params, value)


M = TypeVar("M", bound=models.Model, covariant=True)


class TenantOwnedQuerySet(models.QuerySet[M], Generic[M]):
    """What a manager hands out. Querysets of tenant-owned models derive from this one.

    `_insert` and `_update` are where Django's save, create, bulk_create and get_or_create all
    arrive, whether or not they pass through the model's own `save`.
    """

    def _insert(
        self,
        objs: Sequence[M],
        fields: Any,
        returning_fields: Any = None,
        raw: bool = False,
        using: str | None = None,
        on_conflict: Any = None,
        update_fields: Any = None,
        unique_fields: Any = None,
    ) -> Any:
        for obj in objs:
            check(obj)
        scope = required(self.model.__name__)
        is_keyed_by_tenant = any(field.name == "tenant" for field in unique_fields or ())
        if update_fields and scope.tenant_id is not None and not is_keyed_by_tenant:
            # ON CONFLICT DO UPDATE would change the row it meets, whoever owns it.
            raise NoScope(f"An upsert of {self.model.__name__} must be unique by tenant.")
        return super()._insert(  # type: ignore[misc]  # private in the stubs
            objs,
            fields,
            returning_fields=returning_fields,
            raw=raw,
            using=using,
            on_conflict=on_conflict,
            update_fields=update_fields,
            unique_fields=unique_fields,
        )

    def _update(self, values: Iterable[tuple[models.Field[Any, Any], Any, Any]]) -> int:
        values = list(values)
        for field, _, value in values:
            if field.name == "tenant":
                self._check_move(value)
        rows: int = super(TenantOwnedQuerySet, self._own())._update(values)  # type: ignore[misc]  # private in the stubs
        return rows

    def update(self, **values: Any) -> int:
        for name in ("tenant", "tenant_id"):
            if name in values:
                self._check_move(values[name])
        return super(TenantOwnedQuerySet, self._own()).update(**values)

    def delete(self) -> tuple[int, dict[str, int]]:
        return super(TenantOwnedQuerySet, self._own()).delete()

    def _own(self) -> Self:
        """What may be written: platform rows that a tenant reads are not its to change."""
        model: Any = self.model
        scope = required(model.__name__)
        if scope.tenant_id is None or not model.shows_platform_rows:
            return self
        return self.filter(tenant_id=scope.tenant_id)

    def _check_move(self, owner: Any) -> None:
        scope = required(self.model.__name__)
        owner_id = getattr(owner, "pk", owner)
        if scope.tenant_id is not None and owner_id != scope.tenant_id:
            raise NoScope(f"{self.model.__name__} was about to move to another tenant.")

    def raw(self, *args: Any, **kwargs: Any) -> models.query.RawQuerySet[Any]:
        if required(self.model.__name__).tenant_id is not None:
            raise NoScope(
                "Raw SQL is not filtered by tenant: use the queryset, or the platform scope "
                "and a WHERE of your own."
            )
        return super().raw(*args, **kwargs)


class TenantOwnedManager(models.Manager[M], Generic[M]):
    """The only kind of manager a tenant-owned model has, as its base manager too."""

    _queryset_class = TenantOwnedQuerySet

    def get_queryset(self) -> models.QuerySet[M]:
        return super().get_queryset().filter(InScope("tenant_id"))


class TenantOwned(Row):
    """A row that belongs to one tenant. Name this base first: Django takes the base manager
    from the first parent.

    A model whose rows may also be the platform's own makes `tenant` nullable. Those rows show
    in the platform scope only, or, with `shows_platform_rows`, to every tenant for reading."""

    shows_platform_rows: ClassVar[bool] = False

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="+")

    objects: TenantOwnedManager[Any] = TenantOwnedManager()

    class Meta:
        abstract = True
        base_manager_name = "objects"

    @classmethod
    def from_db(cls, db: str | None, field_names: Any, values: Any, **options: Any) -> Self:
        instance = super().from_db(db, field_names, values, **options)
        # A deferred tenant column was filtered by the queryset; asking for it would query.
        is_for_all = cls.shows_platform_rows and instance.__dict__.get("tenant_id") is None
        if "tenant_id" in instance.__dict__ and not is_for_all:
            check(instance)
        else:
            required(cls.__name__)
        return instance

    def save(self, *args: Any, **kwargs: Any) -> None:
        check(self)
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        check(self)
        return super().delete(*args, **kwargs)


def check(row: Any) -> None:
    """Raises NoScope unless this row (of a TenantOwned model) is the current scope's own."""
    name = type(row).__name__
    if not required(name).covers(row.tenant_id):
        raise NoScope(f"{name} of another tenant was touched.")
