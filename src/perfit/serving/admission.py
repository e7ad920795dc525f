"""Who a request comes from, and whether it is taken in at all; its body within bounds."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import TYPE_CHECKING

from perfit.serving.faults import RefusedError
from perfit.serving.gateway import Gateway
from perfit.serving.keys import LOCAL, Tenant

if TYPE_CHECKING:
    from starlette.requests import Request

MOST_BYTES, MOST_HISTORY_BYTES = 1 << 20, 32 << 20
_BODY_SECONDS = 30.0
_LONGEST_KEY = 512


def tenant_of(gateway: Gateway, request: Request, right: str) -> Tenant:
    """The tenant whose key came with a request, one request less in its bucket.

    Raises:
        RefusedError: There is no key, or none of ours (401), it lacks the right (403), or there were too many (429).
    """
    if gateway.keys is None:
        _check_local(request)
        tenant = LOCAL
    else:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        found = gateway.keys.tenant_of(key.strip()) if scheme.lower() == "bearer" and len(key) <= _LONGEST_KEY else None
        if found is None:
            raise RefusedError(401, "no key of this server; send Authorization: Bearer <key>", code="invalid_api_key")
        tenant = found
    if right not in tenant.may:
        raise RefusedError(403, f"this key may not {right}", code="missing_right")
    gateway.limits.spend(tenant)
    return tenant


def _check_local(request: Request) -> None:
    """Without keys nobody but this machine may ask, and no web page of another site that its user looks at."""
    host = request.headers.get("host", "")
    if not is_loopback(_name_of(host)):
        raise RefusedError(403, "without keys this server is asked by its loopback address alone", code="foreign_host")
    origin = request.headers.get("origin")
    if origin is not None and origin != f"http://{host}":
        raise RefusedError(403, "without keys no page of another site may ask", code="foreign_origin")


def _name_of(host: str) -> str:
    """A host without its port."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Whether a host's name or address means this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def body_of(request: Request, most: int = MOST_BYTES) -> bytes:
    """The body, of bounded size and time.

    Raises:
        RefusedError: It is larger (413), came too slowly (408), or is no JSON by its own word (415).
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        # A page of another site could send any other kind without asking first.
        raise RefusedError(
            415, "the body must be JSON; send content-type: application/json", code="unsupported_media_type"
        )
    length = request.headers.get("content-length", "0")
    too_large = RefusedError(413, f"the body has more than {most:,} bytes; send less", code="request_too_large")
    if length.isdigit() and int(length) > most:
        raise too_large
    content = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                content += part
                if len(content) > most:
                    raise too_large
    except TimeoutError:
        raise RefusedError(408, f"the body took more than {_BODY_SECONDS:.0f} s", code="request_timeout") from None
    return bytes(content)
