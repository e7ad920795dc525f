"""What users tell a server and ask of what was learnt: histories, feedback, training, versions, export, erasing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfit.data.schema import HistoryItem, Turn, User
from perfit.erasure import Erasure, erase_user
from perfit.errors import StoreError, UnknownUserError
from perfit.inputs import checked_user
from perfit.notebook.items import MOST, Verdict
from perfit.pseudo_users import PSEUDO_USERS
from perfit.run import RunDirectory
from perfit.serving import publishing
from perfit.serving.body import Body
from perfit.serving.chat import turns_of
from perfit.serving.faults import RefusedError
from perfit.serving.gateway import Gateway, check_user, in_thread
from perfit.serving.keys import Tenant
from perfit.store.digest import shift_digest
from perfit.store.export import export_bytes

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_MOST_LISTED, _MOST_LETTERS, _MOST_FIELDS = 1000, 100_000, 32
_LOCK_SECONDS = 20.0


async def list_users(gateway: Gateway, tenant: Tenant, request: Request, content: bytes) -> Response:
    """``GET /v1/users``: of those the key may act for, the first thousand with a shift."""
    users = await in_thread(lambda: [user for user in gateway.perfit.users() if tenant.acts_for(user)])
    return _json({"object": "list", "data": users[:_MOST_LISTED], "more": len(users) > _MOST_LISTED})


async def put_history(gateway: Gateway, tenant: Tenant, request: Request, content: bytes) -> Response:
    """``PUT /v1/users/{id}/history``: keep this history instead of the one that was there.

    Raises:
        RefusedError, DataError: It is none of this task.
    """
    user = _user(request, tenant)
    body = Body(content)
    body.only(("history",))
    listed = body.listed("history", most=MOST)

    def keep() -> dict[str, Any]:
        who, notes = checked_user({"user": user, "history": list(listed)})
        items, held = gateway.items.replace(User(user, tuple(_spelled(gateway, item) for item in who.history)))
        return {"items": items, "held_out": held, "notes": list(notes)}

    return _json(await in_thread(keep))


def _spelled(gateway: Gateway, item: HistoryItem) -> HistoryItem:
    """A past item with its answer in the task's own spelling, as feedback keeps it: one value is one item.

    Raises:
        DataError: It is none of the task.
    """
    task = gateway.perfit.task
    answer = task.history_example(item).answer
    return item if answer is None else replace(item, fields={**item.fields, task.history_answer: answer})


async def feedback(gateway: Gateway, tenant: Tenant, request: Request, content: bytes) -> Response:
    """``POST /v1/users/{id}/feedback``: an answer was accepted, edited or rejected.

    Raises:
        RefusedError, DataError: It is no answer of this task.
    """
    user = _user(request, tenant)
    body = Body(content)
    body.only(("input", "messages", "answer", "verdict", "text", "fields"))
    verdict = body.text("verdict")
    if verdict not in ("accepted", "edited", "rejected"):
        raise RefusedError(400, "verdict: is not possible; give accepted, edited or rejected", param="verdict")
    name = "text" if verdict == "edited" else "answer"
    right = body.text(name, most=_MOST_LETTERS)
    labels = gateway.perfit.task.labels
    if labels and gateway.perfit.task.spelled(right) is None:
        raise RefusedError(
            400,
            f"{name}: is none of the task's {len(labels)} labels; give one of them",
            param=name,
            code="invalid_value",
        )
    wrong = body.optional_text("answer") if verdict == "edited" else None
    judged, task = _judged(gateway, body), gateway.perfit.task

    def keep() -> dict[str, Any]:
        named: Verdict = verdict  # type: ignore[assignment]
        gateway.items.judge(user, named, judged(right), task)
        if wrong is not None and task.spelled(wrong) not in (None, task.spelled(right)):
            gateway.items.judge(user, "rejected", judged(wrong), task)
        return gateway.items.counts(user)

    return _json(await in_thread(keep))


def _judged(gateway: Gateway, body: Body) -> Callable[[str], HistoryItem]:
    """A past item of what was asked, for an answer that is given to it.

    Raises:
        RefusedError: A field is impossible.
    """
    task = gateway.perfit.task
    turns: list[Turn] = []
    more = body.mapping("fields")
    if len(more) > _MOST_FIELDS or not all(isinstance(one, str) and len(one) <= _MOST_LETTERS for one in more.values()):
        raise RefusedError(400, f"fields: must be at most {_MOST_FIELDS} texts by name", param="fields")
    fields = dict(more)
    if body.fields.get("messages") is not None:
        *turns, last = turns_of(body)
        asked = last.content
    else:
        asked = body.text("input", "", most=_MOST_LETTERS)
    if task.body_field is not None:
        fields[task.body_field] = asked

    def judged(answer: str) -> HistoryItem:
        spelled = task.spelled(answer)
        return HistoryItem(
            "feedback", fields | {task.history_answer: answer if spelled is None else spelled}, turns=tuple(turns)
        )

    return judged


async def personalize(gateway: Gateway, tenant: Tenant, request: Request, content: bytes) -> Response:
    """``POST /v1/users/{id}/personalize``: queue a training; on return it is on the disk.

    Raises:
        RefusedError: Nothing is there to learn from, or nobody trains.
    """
    user = _user(request, tenant)
    if content.strip():
        Body(content).only(())
    if gateway.worker is None:
        raise RefusedError(503, "this server does not train; start it with --learn above 0", code="no_training")

    def queue() -> dict[str, Any]:
        if not gateway.items.counts(user)["items"]:
            raise RefusedError(
                409, "there is nothing to learn from; send a history or feedback first", code="no_history"
            )
        return gateway.jobs.ask(user).as_dict()

    return _json(await in_thread(queue), 202)


async def job(gateway: Gateway, tenant: Tenant, request: Request, content: bytes) -> Response:
    """``GET /v1/users/{id}/personalize``: the last training that was asked for.

    Raises:
        UnknownUserError: None was.
    """
    user = _user(request, tenant)
    found = await in_thread(lambda: gateway.jobs.latest(user))
    if found is None:
        raise UnknownUserError("no training of this user was asked for; POST asks for one")
    return _json(found.as_dict())


async def export(gateway: Gateway, tenant: Tenant, request: Request, content: bytes) -> Response:
    """``GET /v1/users/{id}/shift``: the live shift, in the form of ``perfit users export``.

    Raises:
        UnknownUserError: There is none.
    """
    from starlette.responses import Response as ResponseType

    user = _user(request, tenant)

    def exported() -> tuple[bytes, str]:
        stored = gateway.people.stored(user)
        spec = gateway.perfit.belonging.store_spec(gateway.people.shared.file)
        parts = {"identity": gateway.perfit.identity.as_dict(), "spec": spec, "meta": stored.meta}
        return export_bytes(user, stored.tensors, parts), shift_digest(stored.tensors)

    file, digest = await in_thread(exported, gateway.tending)
    headers = {"etag": f'"{digest}"', "content-disposition": 'attachment; filename="shift.safetensors"'}
    return ResponseType(file, media_type="application/octet-stream", headers=headers)


async def list_versions(gateway: Gateway, tenant: Tenant, request: Request, content: bytes) -> Response:
    """``GET /v1/users/{id}/versions``: what is kept of a user, and which version is live.

    Raises:
        UnknownUserError: Nothing is.
    """
    user = _user(request, tenant)

    def listed() -> dict[str, Any]:
        found = publishing.described(gateway.versions, user, _live(gateway, user))
        if not found and not gateway.notebook.knows(user):
            raise UnknownUserError("nothing is kept of this user; send a history first")
        return {"object": "list", "data": found, "learnt_from": gateway.items.counts(user)}

    return _json(await in_thread(listed, gateway.tending))


async def rollback(gateway: Gateway, tenant: Tenant, request: Request, content: bytes) -> Response:
    """``POST /v1/users/{id}/rollback``: put the version ``version`` live.

    Raises:
        UnknownUserError: Nothing is kept of the user.
        RefusedError: There is no such version, or the run is in use.
    """
    user = _user(request, tenant)
    body = Body(content)
    body.only(("version",))
    number = body.whole("version", None, 1, 1 << 31)
    if number is None:
        raise RefusedError(400, "version: is missing; GET versions lists those that are kept", param="version")

    def put() -> dict[str, Any]:
        known = publishing.described(gateway.versions, user, _live(gateway, user))
        if any(one["version"] == number and one["state"] == "live" for one in known):
            return {"live": number}
        if known and all(one["version"] != number for one in known):
            raise RefusedError(
                404,
                f"version: there is no version {number} of this user; GET versions lists those that are kept",
                param="version",
                code="version_not_found",
            )
        stored = gateway.versions.stored(user, number)
        one = publishing.Publication(user, stored, {}, live=True)
        digest = shift_digest(stored.tensors)
        live = publishing.publish(
            RunDirectory(gateway.run),
            gateway.versions,
            one,
            seconds=_LOCK_SECONDS,
            still_wanted=lambda: gateway.versions.number_of(user, digest) is not None,
        )
        if live is None:
            raise UnknownUserError("this user was erased meanwhile")
        return {"live": live}

    return _json(await in_thread(put, gateway.tending))


async def erase(gateway: Gateway, tenant: Tenant, request: Request, content: bytes) -> Response:
    """``DELETE /v1/users/{id}``: erase the user from every file of the run, and from what is in memory.

    Raises:
        UnknownUserError: Nothing is known of the user.
        RefusedError: The run is in use.
    """
    user = _user(request, tenant)

    return _json(await in_thread(lambda: _said(_erased(user, gateway), gateway.run), gateway.tending))


def _erased(user: str, gateway: Gateway) -> Erasure:
    until = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            return erase_user(user, gateway.run)
        except UnknownUserError:
            raise UnknownUserError("nothing is known of this user here") from None
        except StoreError:  # a training may be putting a shift live
            if time.monotonic() >= until:
                raise
            time.sleep(0.2)


def _said(done: Erasure, run: Path) -> dict[str, Any]:
    """What was done and what is out of reach, files by their place in the run alone."""

    def place(path: str) -> str:
        full, inside = Path(path), run.resolve()
        return str(full.resolve().relative_to(inside)) if full.resolve().is_relative_to(inside) else full.name

    return {
        "erased": True,
        "done": [{"file": place(str(deed.path)), "what": deed.what} for deed in done.deeds],
        "not_reached": [
            {"what": place(left.what) if "/" in left.what else left.what, "why": left.why} for left in done.unreached
        ],
    }


def _live(gateway: Gateway, user: str) -> str | None:
    try:
        return shift_digest(gateway.people.stored(user).tensors)
    except UnknownUserError:
        return None


def _user(request: Request, tenant: Tenant) -> str:
    """The user of the address.

    Raises:
        RefusedError: The tenant may not act for them, or it is nobody.
    """
    user = str(request.path_params["user"])
    if not user:
        raise RefusedError(400, "user: is empty; name a user", param="user", code="invalid_value")
    if user in PSEUDO_USERS:
        raise RefusedError(
            400, f"user: {user} is nobody who could learn; name a user", param="user", code="invalid_value"
        )
    check_user(tenant, user)
    return user


def _json(content: Any, status: int = 200) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse(content, status)
