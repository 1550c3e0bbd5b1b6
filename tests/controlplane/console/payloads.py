"""Thirty texts that run as a script wherever they are pasted into a page as they are (bar W2).

Each would set `window.pwned`, by a different way in: elements, attributes, URLs, styles, the
theme's own expression language (Alpine), template syntax, broken quoting, odd encodings.
"""

from __future__ import annotations

PAYLOADS = (
    "<script>window.pwned=1</script>",
    "</script><script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    "<svg onload=window.pwned=1>",
    "<svg><script>window.pwned=1</script></svg>",
    '"><script>window.pwned=1</script>',
    "'><script>window.pwned=1</script>",
    '" autofocus onfocus="window.pwned=1',
    "' autofocus onfocus='window.pwned=1",
    '" onmouseover="window.pwned=1" x="',
    "<body onload=window.pwned=1>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe>",
    "<iframe src=javascript:parent.pwned=1></iframe>",
    "<a href=javascript:window.pwned=1>click</a>",
    "javascript:window.pwned=1",
    "<details open ontoggle=window.pwned=1>",
    "<video><source onerror=window.pwned=1></video>",
    "<input autofocus onfocus=window.pwned=1>",
    "<style>@import 'javascript:window.pwned=1';</style>",
    "<link rel=stylesheet href=javascript:window.pwned=1>",
    "<object data=javascript:window.pwned=1>",
    "<math><mtext></mtext><script>window.pwned=1</script></math>",
    "<template><script>window.pwned=1</script></template><script>window.pwned=1</script>",
    '<div x-data x-init="window.pwned=1"></div>',
    '\'}" x-init="window.pwned=1" x-data="{a:\'',
    "'); window.pwned=1; ('",
    "{{ constructor.constructor('window.pwned=1')() }}${window.pwned=1}",
    "<!--><script>window.pwned=1</script>-->",
    "<scr<script>ipt>window.pwned=1</scr</script>ipt>",
    "\\u003cscript\\u003ewindow.pwned=1\\u003c/script\\u003e&lt;img src=x onerror=pwned=1&gt;",
)
assert len(PAYLOADS) == 30
