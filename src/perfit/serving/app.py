"""The gateway as an ASGI application: routes, and around each the same admission, faults, metrics and log."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfit.extras import import_extra
from perfit.serving import about, learning, playground
from perfit.serving.admission import MOST_BYTES, MOST_HISTORY_BYTES, body_of, tenant_of
from perfit.serving.answer_scores import score_answer
from perfit.serving.asking import ClientGoneError
from perfit.serving.chat import chat
from perfit.serving.completions import completions
from perfit.serving.faults import RefusedError, log_fault, refused
from perfit.serving.gateway import Gateway, in_thread
from perfit.serving.health import Health
from perfit.serving.keys import ANSWER, LEARN, OPERATE, Tenant
from perfit.serving.task_answers import answer_task
from perfit.serving.user_map import show_map

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

LOG = logging.getLogger("perfit.serving")
Handler = Callable[[Gateway, Tenant, "Request", bytes], Awaitable["Response"]]


@dataclass(frozen=True)
class Route:
    """One address of the API.

    Attributes:
        method, path: What it is asked by.
        handler: Who answers.
        right: What the key must be allowed to.
        says: What it does, for the description of the API.
        most: Most bytes of its body.
    """

    method: str
    path: str
    handler: Handler
    right: str
    says: str
    most: int = MOST_BYTES


ROUTES = (
    Route("GET", "/v1/models", about.models, ANSWER, "The one model that is served; users are never listed as models"),
    Route("GET", "/v1/models/{model:path}", about.model, ANSWER, "The model"),
    Route("GET", "/metrics", about.metrics, OPERATE, "Prometheus metrics"),
    Route("POST", "/v1/chat/completions", chat, ANSWER, "Answer a conversation as OpenAI's API does, for `user`"),
    Route("POST", "/v1/completions", completions, ANSWER, "Continue a prompt as OpenAI's API does, for `user`"),
    Route("POST", "/v1/tasks/answer", answer_task, ANSWER, "Answer `input` by the run's task, for `user`"),
    Route(
        "POST", "/v1/answers/score", score_answer, ANSWER, "Log-probabilities of a given answer's tokens, for `user`"
    ),
    Route("GET", "/v1/map", show_map, LEARN, "The users this key may act for as points, by their shifts alone"),
    Route("GET", "/v1/users", learning.list_users, LEARN, "The users this key may act for who have a shift"),
    Route(
        "PUT", "/v1/users/{user:id}/history", learning.put_history, LEARN, "Keep a user's history", MOST_HISTORY_BYTES
    ),
    Route("POST", "/v1/users/{user:id}/feedback", learning.feedback, LEARN, "Accept, edit or reject an answer"),
    Route(
        "POST", "/v1/users/{user:id}/personalize", learning.personalize, LEARN, "Queue a training of the user's shift"
    ),
    Route("GET", "/v1/users/{user:id}/personalize", learning.job, LEARN, "What became of the last training"),
    Route("GET", "/v1/users/{user:id}/shift", learning.export, LEARN, "The user's live shift as a safetensors file"),
    Route("GET", "/v1/users/{user:id}/versions", learning.list_versions, LEARN, "The user's versions"),
    Route("POST", "/v1/users/{user:id}/rollback", learning.rollback, LEARN, "Put an earlier version live"),
    Route("DELETE", "/v1/users/{user:id}", learning.erase, LEARN, "Erase the user everywhere in the run"),
)


def check_extra() -> None:
    """Raise MissingExtraError unless what serving needs is installed."""
    for module, package in (("fastapi", "fastapi"), ("uvicorn", "uvicorn"), ("prometheus_client", "prometheus-client")):
        import_extra(module, package, "serve")


def create_app(gateway: Gateway) -> FastAPI:
    """The application of a gateway; it closes the gateway's engine, worker and files when it ends.

    Raises:
        MissingExtraError: ``perfit[serve]`` is not installed.
    """
    check_extra()
    from fastapi import FastAPI
    from starlette.convertors import PathConvertor, register_url_convertor
    from starlette.exceptions import HTTPException
    from starlette.responses import JSONResponse

    class Id(PathConvertor):
        """Any text: what ends a line is a part of it, where ``path`` would leave it out."""

        regex = r"[\s\S]*"

    register_url_convertor("id", Id())

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await in_thread(gateway.close)

    app = FastAPI(
        title="perfit",
        summary="One base model, each user their own shift",
        docs_url=None,
        redoc_url=None,
        lifespan=life,
    )
    for route in ROUTES:
        app.add_api_route(
            route.path,
            _endpoint(gateway, route),
            methods=[route.method],
            summary=route.says,
            name=f"{route.method} {route.path}",
            response_model=None,
            response_class=JSONResponse,
        )
    for path, handler in _open_routes(gateway).items():
        app.add_route(path, handler, methods=["GET"])

    async def no_route(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        said = (
            "there is no such address here; /openapi.json lists them" if status == 404 else "this is not possible here"
        )
        gateway.metrics.request("none", status, 0.0)
        return JSONResponse(RefusedError(status, said, code="unknown_url").as_dict(), status)

    app.add_exception_handler(HTTPException, no_route)
    return app


def _endpoint(gateway: Gateway, route: Route) -> Callable[[Any], Awaitable[Response]]:
    from starlette.requests import Request as RequestType
    from starlette.responses import JSONResponse, StreamingResponse
    from starlette.responses import Response as ResponseType

    label = f"{route.method} {route.path}"

    async def endpoint(request: Request) -> Response:
        began, name = time.perf_counter(), secrets.token_hex(8)
        trace = gateway.tracing.begin(route.method, route.path, name, request.headers.get("traceparent"))
        request.state.trace = trace
        try:
            tenant = tenant_of(gateway, request, route.right)
            content = await body_of(request, route.most) if route.method in ("POST", "PUT") else b""
            response = await route.handler(gateway, tenant, request, content)
        except ClientGoneError:
            response = ResponseType(status_code=499)
        except Exception as error:
            fault = refused(error)
            log_fault(LOG, name, label, fault, error)
            headers = {} if fault.retry_after is None else {"retry-after": f"{fault.retry_after:.0f}"}
            response = JSONResponse(fault.as_dict(), fault.status, headers=headers)
        response.headers["x-request-id"] = name
        seconds = time.perf_counter() - began
        gateway.metrics.request(label, response.status_code, seconds)
        if not isinstance(response, StreamingResponse):  # a stream is over when it has been sent
            trace.end(response.status_code)
        LOG.info("%s %s %d %.3f s", name, label, response.status_code, seconds)
        return response

    endpoint.__annotations__ = {"request": RequestType, "return": ResponseType}
    return endpoint


def _open_routes(gateway: Gateway) -> dict[str, Callable[[Request], Awaitable[Response]]]:
    """What is asked without a key: it says nothing of anybody."""
    from starlette.responses import JSONResponse

    health = Health(gateway)

    async def well(request: Request) -> Response:
        ok = await health.well()
        return JSONResponse({"status": "ok" if ok else "no token came"}, 200 if ok else 503)

    async def live(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    pages = {path: playground.page(name) for path, name in playground.PAGES.items()}
    return {"/health": well, "/live": live, **pages}
