"""Whether a base answers many at once as it answers each alone: tried before it serves anybody."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from perfit.backbone.model import Backbone
from perfit.edits.shift import new_shift
from perfit.errors import BaseModelError
from perfit.serving.answer import Answer
from perfit.serving.batched import Batched
from perfit.serving.continuous import Paging
from perfit.serving.engine import Event, Finished, Handle, Request, Token
from perfit.serving.loading import Loaded
from perfit.serving.reference import Reference
from perfit.serving.served import Core
from perfit.serving.version import ShiftVersion

_SMALL = Paging(rows=4, page=4, tokens=128, step=8)  # prompts come in pieces, and share their beginnings
_ALLOWED, _ALLOWED_HALF = 1e-3, 0.3  # of log-probabilities; in half precision the order of sums shows


def prove(backbone: Backbone, layers: tuple[int, ...]) -> None:
    """Make sure that a base answers many at once as it answers each alone, with edits and without.

    Raises:
        BaseModelError: It does not, or cannot.
    """
    chance = torch.Generator().manual_seed(0)
    first, second = (new_shift((len(layers), 2, backbone.hidden_size), init="loreft", generator=chance) for _ in "12")
    who = ShiftVersion("", "proof", 0, "proof", "proof", "", 1.0, "f2+l2")
    loaded = Loaded(who, first, second, second)
    prompts = [tuple((7 * n) % 50 + 1 for n in range(length)) for length in (11, 6)]
    asked = [
        Request(f"{number} {version is None}", prompt, version, max_new_tokens=2)
        for number, prompt in enumerate(prompts)
        for version in (None, who)
    ]
    try:
        many = _told(Batched(backbone, layers, (2, 2), resident=0, paging=_SMALL), backbone, asked, loaded)
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError, NotImplementedError) as error:
        raise BaseModelError(f"{backbone.name}: many at once fail on this base ({type(error).__name__})") from error
    plain = Reference(backbone, layers)
    allowed = _ALLOWED if backbone.dtype == torch.float32 else _ALLOWED_HALF
    for request in asked:
        alone = _told(plain, backbone, [request], loaded)[request.id]
        for mine, theirs in zip(many[request.id], alone, strict=True):
            if not isinstance(mine, Token) or not isinstance(theirs, Token):
                if type(mine) is not type(theirs) or (isinstance(mine, Finished) and mine.reason == "error"):
                    raise BaseModelError(f"{backbone.name}: it fails where many are answered at once")
                continue
            if not abs(mine.logprob - theirs.logprob) <= allowed:
                raise BaseModelError(
                    f"{backbone.name}: many at once differ from one alone by {abs(mine.logprob - theirs.logprob):.2g} in a "
                    "log-probability"
                )
            if mine.id != theirs.id:
                break  # as good as equally probable; what follows them differs


def _told(core: Core, backbone: Backbone, requests: Sequence[Request], loaded: Loaded) -> dict[str, list[Event]]:
    """All that a core says to some requests in flight together."""
    told: dict[str, list[Event]] = {request.id: [] for request in requests}
    answers = [Answer(Handle(request, told[request.id].append), backbone) for request in requests]
    for answer in answers:
        core.begin(answer, None if answer.request.who is None else loaded)
    while not all(answer.finished for answer in answers):
        core.step()
    return told
