"""What a server says of itself: its model, and its metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perfit.serving.faults import RefusedError
from perfit.serving.gateway import Gateway, in_thread
from perfit.serving.keys import Tenant

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


async def models(gateway: Gateway, tenant: Tenant, request: Request, content: bytes) -> Response:
    """``GET /v1/models``: one entry, whatever the number of users."""
    from starlette.responses import JSONResponse

    return JSONResponse({"object": "list", "data": [_model(gateway)]})


async def model(gateway: Gateway, tenant: Tenant, request: Request, content: bytes) -> Response:
    """``GET /v1/models/{model}``.

    Raises:
        RefusedError: Another is served.
    """
    from starlette.responses import JSONResponse

    if request.path_params["model"] not in (gateway.name, "perfit"):
        raise RefusedError(
            404, f"model: is not served here; ask for {gateway.name!r}", param="model", code="model_not_found"
        )
    return JSONResponse(_model(gateway))


async def metrics(gateway: Gateway, tenant: Tenant, request: Request, content: bytes) -> Response:
    """``GET /metrics``."""
    from starlette.responses import Response as ResponseType

    text, kind = await in_thread(gateway.metrics.text)  # it counts jobs in a file that somebody may be writing
    return ResponseType(text, media_type=kind)


def _model(gateway: Gateway) -> dict[str, Any]:
    task = gateway.perfit.task
    return {
        "id": gateway.name,
        "object": "model",
        "created": gateway.started,
        "owned_by": "perfit",
        "task": {"name": task.name, "kind": task.kind, "labels": len(task.labels)},
        "chat": bool(gateway.perfit.backbone.tokenizer.chat_template),
    }
