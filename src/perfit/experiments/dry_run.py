"""The paper's own size without its weights: data held against Table 6, parameters against what it prints, cost estimated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfit.backbone.fingerprint import BaseIdentity
from perfit.config import paper_preset
from perfit.experiments.cells import slots
from perfit.experiments.cost import INSTRUCTION_TOKENS, Accelerator, Estimate, Load, estimate
from perfit.experiments.paper.bases import paper_base
from perfit.experiments.paper.entry import Entry, Parameters
from perfit.experiments.paper.registry import entries, entry_of
from perfit.experiments.scale import Choices
from perfit.methods.method import Cost, Setting
from perfit.methods.registry import METHODS, make_method
from perfit.tasks import get_task

if TYPE_CHECKING:
    from perfit.backbone.model import Backbone

_TABLE_13 = {"layers": (7, 9, 11), "positions": "f7+l7", "collective_rank": 32, "personal_rank": 32}
_HALVED = "the paper's share is half of its parameters / model"
SAME, SLIP, OTHER = "equal", "the paper's slip", "different"


@dataclass(frozen=True)
class Check:
    """One number held against the paper's.

    Attributes:
        what: Which.
        printed, ours: Both.
        verdict: "equal", "the paper's slip" or "different".
        why: The slip.
        line: Where the paper prints it.
    """

    what: str
    printed: float
    ours: float | None
    verdict: str
    why: str = ""
    line: int = 0


def check_parameters(entry: Entry) -> list[Check]:
    """Every count and share of parameters that an entry prints."""
    return [_check(one) for one in entry.parameters]


def _check(one: Parameters) -> Check:
    what = f"{paper_base(one.base).label} {one.task} {one.method} {_stage(one.stage)}{one.what}"
    ours, digits = _value(one), _digits(one)
    if round(ours, digits) == one.value:
        return Check(what, one.value, round(ours, digits), SAME, line=one.line)
    if one.what == "percent" and one.stage == 0 and abs(ours / 2 - one.value) <= 0.51 * 10**-digits:
        return Check(what, one.value, round(ours, digits), SLIP, _HALVED, one.line)
    return Check(what, one.value, round(ours, digits), OTHER, line=one.line)


def _stage(stage: int) -> str:
    return f"stage {stage} " if stage else ""


def _digits(one: Parameters) -> int:
    if one.what == "percent":
        return 4 if one.stage else 3
    return {"reduction": 2, "ratio": 0, "millions": 2}[one.what]


def _value(one: Parameters) -> float:
    options = _TABLE_13 if one.base != "llama-2-7b" and one.method == "perfit" else {}
    ours = _of_stage(cost_of(one.base, one.task, one.method, **options), one.stage)
    if one.what == "millions":
        return ours / 1e6
    if one.what == "percent":
        return 100 * ours / base_parameters(one.base)
    other = _of_stage(cost_of(one.base, one.task, "oppu" if one.what == "reduction" else "perfit"), one.stage)
    return 100 * (1 - ours / other) if one.what == "reduction" else ours / other


def _of_stage(cost: Cost, stage: int) -> int:
    both = (cost.collective_parameters, cost.personal_parameters)
    return sum(both) if stage == 0 else both[stage - 1]


@cache
def _on_meta(base: str) -> Backbone:
    from perfit.experiments.smoke_base import tokenizer_of

    return paper_base(base).on_meta(tokenizer_of(["a", "b"]))


def base_parameters(base: str) -> int:
    """Numbers of one of the paper's bases, tied ones counted once."""
    return sum(parameter.numel() for parameter in _on_meta(base).model.parameters())


def cost_of(base: str, task: str, method: str, **options: Any) -> Cost:
    """What a method holds on one of the paper's bases, with Table 9's settings."""
    backbone = _on_meta(base)
    shape = paper_base(base).shape
    nothing = "none"
    identity = BaseIdentity(
        paper_base(base).kind, shape["hidden_size"], shape["num_hidden_layers"], shape["vocab_size"],
        nothing, nothing, nothing, nothing, "files:none",
    )  # fmt: skip
    config = paper_preset(task)
    depth = len(backbone.layers)
    if max(config.layers) >= depth:
        config = config.with_options(layers=(depth // 2,))
    return make_method(
        method, Setting(backbone, identity, get_task(task), config, 0, Path("nowhere")), **options
    ).cost()


def check_data(choices: Choices) -> list[Check]:
    """Sizes of the data at hand against Table 6; without data, that every size is known."""
    from perfit.experiments.data_sizes import sizes
    from perfit.experiments.world import World

    world, found = World(choices), []
    for numbers in entry_of("table6").numbers:
        task = next(iter(numbers.values)).partition(".")[0]
        ours = sizes(world.dataset(task), get_task(task), None) if world.data_of(task) is not None else {}
        for name, printed in numbers.values.items():
            value = ours.get(name.partition(".")[2])
            if value is None:
                continue
            verdict = SAME if round(value, 1) == round(printed, 1) else OTHER
            found.append(Check(name, printed, round(value, 1), verdict, line=numbers.line))
    return found


def estimates(chosen: Sequence[Entry], gpu: Accelerator, choices: Choices) -> list[Estimate]:
    """The cost of each cell of the comparisons at the paper's size, one that entries share counted once."""
    found: dict[str, Estimate] = {}
    for entry in (one for one in chosen if one.kind == "compare"):
        for slot in slots(entry, choices.scale):
            row, base = slot.row, slot.row.base or entry.bases[0]
            shape = paper_base(base).shape
            load, at_once = load_of(slot.task, row.method or "base", row.pool)
            key = replace(row, label="same", extra=False, base=base, x=None, y=None, curve=None)
            found[f"{key} {slot.task} {slot.seed}"] = estimate(
                load, base_parameters(base), shape["hidden_size"], shape["num_hidden_layers"], at_once, gpu
            )
    return list(found.values())


def load_of(task: str, method: str, pool: int | None = None) -> tuple[Load, int]:
    """Tokens that a method runs on a task of Table 6's size, and those of one step."""
    known = entry_of("table6")
    the_task, config = get_task(task), paper_preset(task)

    def size(name: str) -> float:
        return known.printed("data", f"{task}.{name}") or 0.0

    extra = INSTRUCTION_TOKENS[the_task.kind]
    first = size("stage1_input") + size("stage1_output") + extra
    second = size("input") + size("output") + extra
    share = 1.0 if pool is None else min(1.0, pool / size("stage1_users"))
    history = size("stage2_users") * size("history")
    epochs = (3, 2) if "lora" in method or method in ("oppu", "lofit") else (config.stage1.epochs, config.stage2.epochs)
    trained = 0.0
    if method in _WITH_STAGE_1:
        trained += share * size("stage1_queries") * first * epochs[0]
    if method in _WITH_STAGE_2:
        trained += history * second * epochs[1]
    prompts = size("queries") * second * (1 + _RETRIEVED.get(method, 0))
    limit = 4.0 if the_task.labels else 30.0  # answers of tuned models end; those of bases run on for 200
    limit = 200.0 if method in ("base", "cos", "pag", "rag-1", "rag-2", "rag-4", "style-vector") else limit
    load = Load(0.0 if not METHODS[method].seeded else trained, prompts, size("queries"), limit)
    return load, int(config.stage1.batch_size * max(first, second))


_WITH_STAGE_1 = {
    "lora-c", "oppu", "perfit", "perfit-stage-1", "perfit-code", "lora-c-all+perfit-p", "lora-c-partial+perfit-p",
}  # fmt: skip
_WITH_STAGE_2 = {
    "lora-p", "oppu", "lofit", "reft-c+p", "reft-p", "perfit", "perfit-stage-2", "perfit-code", "lora-c-all+perfit-p",
    "lora-c-partial+perfit-p",
}  # fmt: skip
_RETRIEVED = {"rag-1": 1, "rag-2": 2, "rag-4": 4, "cos": 4, "pag": 3}


@dataclass(frozen=True)
class DryRun:
    """What a run at the paper's size would be."""

    parameters: list[Check]
    data: list[Check]
    cells: int
    hours: float
    gib: float
    gpu: Accelerator

    @property
    def wrong(self) -> list[Check]:
        """What is neither the paper's nor a named slip of it."""
        return [one for one in (*self.parameters, *self.data) if one.verdict == OTHER]


def dry_run(names: Sequence[str], choices: Choices, gpu: Accelerator) -> DryRun:
    """Check everything that can be checked without weights."""
    chosen = [entries()[name] for name in names]
    costs = estimates(chosen, gpu, choices)
    return DryRun(
        [check for entry in chosen for check in check_parameters(entry)],
        check_data(choices),
        len(costs),
        sum(one.hours for one in costs),
        max((one.gib for one in costs), default=0.0),
        gpu,
    )
