"""What the top of a page is called."""

from __future__ import annotations

from typing import Any

from django.template import Library, RequestContext

register = Library()


@register.simple_tag(takes_context=True)
def trail(context: RequestContext, parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # Imported late: the theme reads all tag libraries while it is itself imported by pages.py.
    from controlplane.console.navigation import trail_of

    return trail_of(context["request"], parts)
