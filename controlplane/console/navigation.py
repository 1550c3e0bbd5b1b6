"""The sidebar: pages grouped by what people come for. Named in the theme's settings."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse

from controlplane.console.pages import Page

# Groups in the order they appear; a page names its group.
GROUPS = ("Access", "Providers", "Routing", "Usage", "Records")


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    overview = {"title": "Overview", "icon": "home", "link": reverse("admin:index")}
    groups: dict[str, list[tuple[int, dict[str, Any]]]] = {name: [] for name in GROUPS}
    for model, page in admin.site._registry.items():
        if not isinstance(page, Page) or not page.nav_group:
            continue
        link = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        entry: dict[str, Any] = {
            "title": page.list_title,
            "icon": page.nav_icon,
            "link": link,
        }
        group = groups.setdefault(page.nav_group, [])
        group.append((page.nav_order, entry))
        for more in page.nav_more:
            path = page.url_of(more.view)
            is_here = request.path == path
            below = {"title": more.title, "icon": more.icon, "link": path, "active": is_here}
            group.append((more.order, below))
            if is_here:
                # The theme would mark the list above it too.
                entry["active"] = False
    return [
        {"items": [overview]},
        *(
            {
                "title": name,
                "separator": True,
                "items": [entry for _, entry in sorted(entries, key=lambda pair: pair[0])],
            }
            for name, entries in groups.items()
            if entries
        ),
    ]


def account_links(_request: HttpRequest) -> list[dict[str, Any]]:
    return [
        {"title": "Sign-in and security", "link": reverse("mfa_index")},
        {"title": "Change password", "link": reverse("account_change_password")},
    ]


def stylesheet(_request: HttpRequest) -> str:
    return static("console/console.css")


def mark(_request: HttpRequest) -> str:
    return static("console/mark.svg")


def trail_of(request: HttpRequest, parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the top of a page is called: as the sidebar calls it. `parts` as the theme made them:
    the Django app, which says nothing to an operator, the model's list, a row."""
    if len(parts) == 1:
        return parts
    found = [dict(part) for part in parts[1:]]
    page = _page_at(str(found[0]["link"]))
    if page is None:
        return found
    found[0]["title"] = page.list_title
    if len(found) == 1 and request.path != found[0]["link"]:
        for more in page.nav_more:
            if request.path == page.url_of(more.view):
                return [{"title": more.title}]
        if request.path.endswith("/add/"):
            found.append({"title": f"New {page.opts.verbose_name}"})
    return found


def _page_at(path: str) -> Page | None:
    for page in admin.site._registry.values():
        if isinstance(page, Page) and page.url_of("changelist") == path:
            return page
    return None
