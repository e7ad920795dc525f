"""The page at ``/``: files of this package, with nothing from anywhere else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_SCRIPTS = ("page", "parts", "server", "map", "read", "moved", "teach")
PAGES = {
    "/": "serving/static/page.html",
    "/style.css": "pages/style.css",  # the design of all pages
    "/page.css": "serving/static/page.css",
    **{f"/{name}.js": f"serving/static/{name}.js" for name in _SCRIPTS},
}
"""Files inside ``perfit``, by their address."""
_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def page(name: str) -> Callable[[Request], Awaitable[Response]]:
    """Serves one of the files."""
    content = files("perfit").joinpath(*name.split("/")).read_bytes()
    kind = _KINDS[name.rpartition(".")[2]]

    async def served(request: Request) -> Response:
        from starlette.responses import Response as ResponseType

        return ResponseType(content, media_type=f"{kind}; charset=utf-8", headers=_HEADERS)

    return served
