"""Every setting of a run: typed, checked where it is made, and the presets."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any, ClassVar

from perfit.edits.positions import Positions
from perfit.errors import ConfigError

RESOURCES = ("users_together", "step_tokens", "memory_gib")
"""Settings of how much runs at once: they change the order of sums and nothing else, so that a run may go on with less."""


def _check(ok: bool, name: str, value: object, way_out: str) -> None:
    if not ok:
        raise ConfigError(f"{name}: {value!r} is not possible; {way_out}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_KINDS = {
    "int": (_is_count, "give a whole number"),
    "float": (_is_number, "give a number"),
    "str": (lambda value: isinstance(value, str), "give a text"),
    "bool": (lambda value: isinstance(value, bool), "give true or false"),
    "tuple[int, ...]": (
        lambda value: isinstance(value, tuple | list) and all(map(_is_count, value)),
        "give a list of whole numbers such as [9, 10]",
    ),
    "StageConfig": (lambda value: isinstance(value, StageConfig), "set its parts, such as stage2.epochs"),
}


def _check_kinds(config: Any) -> None:
    """Values of another type than declared come from YAML and the command line; comparing them would only crash."""
    for one in fields(config):
        fits, way_out = _KINDS[str(one.type)]
        value = getattr(config, one.name)
        _check(fits(value), one.name, value, way_out)


@dataclass(frozen=True)
class StageConfig:
    """How one stage trains (paper, D.4 and D.5.1).

    Attributes:
        epochs: Passes over a learner's rows.
        batch_size: Rows of one learner per optimiser step.
        learning_rate: Peak of the linear schedule.
        weight_decay: AdamW's decay. It acts on W and b only: R has unit rows by construction, decay would pull it
            off the manifold that the retraction puts it back on, and through torch's ``orthogonal`` it is fatal.
        warmup: Share of the steps over which the rate rises.
        clip: Largest gradient norm of one learner.
        group_by_length: Batches of rows of like length.
    """

    epochs: int = 4
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    warmup: float = 0.1
    clip: float = 0.3
    group_by_length: bool = True

    def __post_init__(self) -> None:
        _check_kinds(self)
        _check(self.epochs >= 1, "epochs", self.epochs, "give at least 1")
        _check(self.batch_size >= 1, "batch_size", self.batch_size, "give at least 1")
        _check(
            0 < self.learning_rate < math.inf,
            "learning_rate",
            self.learning_rate,
            "give a positive number such as 1e-3",
        )
        _check(0 <= self.weight_decay < math.inf, "weight_decay", self.weight_decay, "give 0 or more")
        _check(0 <= self.warmup < 1, "warmup", self.warmup, "give a share from 0 up to below 1")
        _check(self.clip > 0, "clip", self.clip, "give a positive norm; inf turns clipping off")


@dataclass(frozen=True)
class PerFitConfig:
    """One run of PerFit.

    ``PerFit.from_pretrained`` takes what is not given here from ``small_preset`` of the base and the task, as ``perfit
    train`` does; elsewhere what is not given has the plain values below. Of configs read back, and of copies by
    ``dataclasses.replace``, everything counts as given.

    Attributes:
        layers: Edited decoder layers, zero-based; the output of each is edited.
        positions: Edited prompt tokens: "f7+l7", "l7", "all", or indices.
        collective_rank, personal_rank: Ranks of the two shifts (Table 9's LRank and ULRank).
        init: "identity" or "loreft".
        stage1, stage2: Training of the collective and the personal stage.
        stage1_users: Who trains stage 1: "others" (the protocol's, and the paper's), or "all": the users' own histories
            too, never their queries.
        stage1_data: What of the other users trains stage 1: "queries", "history" or "both". Users without queries give
            their history.
        strength: How far a user's own shift goes from the shared one, from 0 (not at all) to 1.
        held_out: Share of each history's newest part that says in a trial whether a user's own shift may go so far;
            0: nobody is asked, and all have the same strength.
        strength_prior: How many nats of that evidence it takes to outweigh ``strength`` altogether; below 0, how many
            it takes before a user has a shift of their own at all.
        retrieved: Past items of the same user before every prompt, in both stages and in answers: those that BM25 finds
            nearest, while training only earlier ones. Asking then needs the histories at hand.
        max_length: Longest prompt + answer in tokens; longer prompts lose the end of the user's text, counted.
        chat_template: Put prompts through the base's chat template.
        seed: Seed of everything random.
        dtype: The base's precision: "auto" (bfloat16 where this device multiplies it natively), "bfloat16", "float32".
        engine: "auto", "frozen" or "plain" (the slow twin).
        users_together: Most users that train in one step.
        step_tokens: Most tokens of one forward of a step.
        memory_gib: Memory a training may take on the base's device, base included; users wait until there is room.
    """

    layers: tuple[int, ...] = (9, 10)
    positions: str = "l7"
    collective_rank: int = 32
    personal_rank: int = 8
    init: str = "identity"
    stage1: StageConfig = field(default_factory=StageConfig)
    stage2: StageConfig = field(default_factory=StageConfig)
    stage1_users: str = "others"
    stage1_data: str = "queries"
    strength: float = 1.0
    held_out: float = 0.0
    strength_prior: float = 0.0
    retrieved: int = 0
    max_length: int = 1024
    chat_template: bool = False
    seed: int = 0
    dtype: str = "auto"
    engine: str = "auto"
    users_together: int = 64
    step_tokens: int = 1536
    memory_gib: float = 8.0
    _given: ClassVar[frozenset[str]]

    def __new__(cls, *values: Any, **named: Any) -> PerFitConfig:
        """Notes which settings are given, for ``over``."""
        self = super().__new__(cls)
        given = [one.name for one, _ in zip(fields(cls), values, strict=False)]
        object.__setattr__(self, "_given", frozenset([*given, *named]))
        return self

    def __post_init__(self) -> None:
        _check_kinds(self)
        object.__setattr__(self, "layers", tuple(self.layers))
        _check(bool(self.layers), "layers", self.layers, "name at least one layer")
        _check(len(set(self.layers)) == len(self.layers), "layers", self.layers, "name each layer once")
        _check(all(layer >= 0 for layer in self.layers), "layers", self.layers, "count from 0")
        Positions.parse(self.positions)
        _check(self.collective_rank >= 1, "collective_rank", self.collective_rank, "give at least 1")
        _check(self.personal_rank >= 1, "personal_rank", self.personal_rank, "give at least 1")
        for name, allowed in (
            ("init", ("identity", "loreft")),
            ("stage1_users", ("others", "all")),
            ("stage1_data", ("queries", "history", "both")),
            ("dtype", ("auto", "bfloat16", "float32", "float16")),
            ("engine", ("auto", "frozen", "plain")),
        ):
            _check(getattr(self, name) in allowed, name, getattr(self, name), f"choose one of {', '.join(allowed)}")
        _check(abs(self.seed) < 2**63, "seed", self.seed, "give a number of at most 18 digits")
        _check(self.retrieved >= 0, "retrieved", self.retrieved, "give how many past items, 0 for none")
        _check(self.max_length >= 8, "max_length", self.max_length, "give at least 8 tokens")
        _check(0 <= self.strength <= 1, "strength", self.strength, "give a number from 0 to 1")
        _check(0 <= self.held_out < 1, "held_out", self.held_out, "give a share from 0 (nothing) to below 1")
        _check(
            math.isfinite(self.strength_prior),
            "strength_prior",
            self.strength_prior,
            "give a number of nats, such as 0",
        )
        _check(self.users_together >= 1, "users_together", self.users_together, "give at least 1")
        _check(self.step_tokens >= 1, "step_tokens", self.step_tokens, "give at least 1")
        _check(0 < self.memory_gib < math.inf, "memory_gib", self.memory_gib, "give a positive number of GiB")

    def with_options(self, **changes: Any) -> PerFitConfig:
        """A copy with other values. Names with a dot reach into a stage: ``**{"stage2.epochs": 2}``.

        Raises:
            ConfigError: An unknown name or an impossible value.
        """
        known = {f.name for f in fields(self)}
        stage_known = {f.name for f in fields(StageConfig)}
        plain: dict[str, Any] = {}
        for name, value in changes.items():
            stage, _, inner = name.partition(".")
            if inner and stage in ("stage1", "stage2") and inner in stage_known:
                current = plain.get(stage, getattr(self, stage))
                try:
                    plain[stage] = replace(current, **{inner: value})
                except ConfigError as error:
                    raise ConfigError(f"{stage}.{error}") from None
            elif not inner and name in known:
                plain[name] = value
            else:
                names = sorted(known | {f"{s}.{n}" for s in ("stage1", "stage2") for n in stage_known})
                raise ConfigError(f"{name}: no such setting; {_nearest(name, names)}known are {', '.join(names)}")
        made = replace(self, **plain)
        object.__setattr__(made, "_given", self._given | set(changes))
        return made

    def over(self, preset: PerFitConfig) -> PerFitConfig:
        """A preset with what was given here in place of its own."""
        values: dict[str, Any] = {}
        for name in sorted(self._given):  # a whole stage before a part of it
            stage, _, inner = name.partition(".")
            values[name] = getattr(getattr(self, stage), inner) if inner else getattr(self, name)
        return preset.with_options(**values)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as manifests keep them."""
        values = asdict(self)
        values["layers"] = list(self.layers)
        if not self.held_out and not self.strength_prior:  # what was made before knew neither, and stays what it was
            del values["held_out"], values["strength_prior"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PerFitConfig:
        """The inverse of ``as_dict``.

        Raises:
            ConfigError: An unknown name or an impossible value.
        """
        flat = {k: v for k, v in values.items() if k not in ("stage1", "stage2")}
        for stage in ("stage1", "stage2"):
            flat |= {f"{stage}.{name}": value for name, value in values.get(stage, {}).items()}
        if "layers" in flat:
            flat["layers"] = tuple(flat["layers"])
        return replace(cls().with_options(**flat))  # what a run of before did not know has its plain value

    def deciding(self) -> dict[str, Any]:
        """The settings that decide the numbers: all but ``RESOURCES``."""
        return {name: value for name, value in self.as_dict().items() if name not in RESOURCES}

    def resources(self) -> dict[str, Any]:
        """The settings of how much runs at once."""
        return {name: getattr(self, name) for name in RESOURCES}

    def digest_text(self) -> str:
        """The settings that decide the numbers, as one line of JSON, to tell whether a run may be resumed."""
        return json.dumps(self.deciding(), sort_keys=True)


def _nearest(name: str, names: Sequence[str]) -> str:
    """What was perhaps meant, as the beginning of a remedy: a like name, or a stage's setting without its stage."""
    last = name.rpartition(".")[2]
    near = [one for one in names if one.rpartition(".")[2] == last] or get_close_matches(name, names, 2, 0.75)
    if not near:
        ends = get_close_matches(last, sorted({one.rpartition(".")[2] for one in names}), 1, 0.75)
        near = [one for one in names if one.rpartition(".")[2] in ends]
    return f"perhaps {' or '.join(near)}; " if near else ""


@dataclass(frozen=True)
class PaperSetting:
    """One row of the paper's Table 9 for Llama-2-7B."""

    collective_rank: int
    personal_rank: int
    layers: tuple[int, ...]
    positions: str
    epochs: int
    batch_size: int


TABLE_9: dict[str, PaperSetting] = {
    "news_categorize": PaperSetting(16, 32, (14, 15, 16), "f7+l7", 6, 16),
    "movie_tagging": PaperSetting(32, 4, (14, 15), "f7+l7", 4, 16),
    "product_rating": PaperSetting(32, 4, (14, 15, 16), "l7", 4, 2),
    "news_headline": PaperSetting(32, 4, (14, 15, 16), "l7", 4, 16),
    "scholarly_title": PaperSetting(32, 8, (15,), "f7+l7", 4, 4),
    "tweet_paraphrase": PaperSetting(32, 16, (14, 15), "f7+l7", 4, 16),
}


def paper_preset(task: str) -> PerFitConfig:
    """The paper's settings for a task (Table 9, D.4, D.5.1), meant for a base of Llama-2-7B's depth.

    Raises:
        ConfigError: The paper has no row for this task.
    """
    row = TABLE_9.get(task)
    if row is None:
        raise ConfigError(f"preset: the paper has no setting for task {task!r}; it has {', '.join(TABLE_9)}")
    stage = StageConfig(epochs=row.epochs, batch_size=row.batch_size, learning_rate=1e-4)
    return PerFitConfig(
        layers=row.layers,
        positions=row.positions,
        collective_rank=row.collective_rank,
        personal_rank=row.personal_rank,
        init="loreft",
        stage1=stage,
        stage2=stage,
        stage1_users="others",
        stage1_data="queries",
        strength=1.0,
        held_out=0.0,
        strength_prior=0.0,
        max_length=2048,
    )


# Of small bases, by kind of task: ranks of both shifts, rate and epochs of stage 1, rate of stage 2, held-out share and prior.
_SMALL = {
    "label": (64, 16, 5e-3, 3, 1e-3, 0.0, 0.0),
    "rating": (32, 8, 2e-3, 2, 2e-3, 0.2, -0.5),
    "text": (32, 8, 2e-3, 2, 1e-3, 0.0, 0.0),
}


def small_preset(
    n_layers: int, kind: str = "label", *, hidden_size: int | None = None, chat: bool = False
) -> PerFitConfig:
    """Measured defaults for small bases (about 100M to 1B): two layers in the middle, "l7", settings by kind of task.

    Searched on users of the stage-1 pools, whom no table reports (docs/results.md). Stage 1 learns from everybody's
    records but the users' own queries: pools of a few hundred queries are too few for a task, and what a user wrote may
    shape the shared shift too. A user's own shift acts at three quarters of its strength: histories are short, and the
    last quarter harms more users than it helps. For ratings each user's history says whether it goes so far.

    Args:
        n_layers: Depth of the base.
        kind: "label", "rating" or "text".
        hidden_size: Width of the base, which ranks keep to; None: as wide as they need.
        chat: Whether prompts are turns of the base's chat template.
    """
    collective_rank, personal_rank, first_rate, first_epochs, second_rate, held_out, prior = _SMALL[kind]
    middle = n_layers // 2
    return PerFitConfig(
        layers=(middle - 1, middle) if middle else (0,),
        collective_rank=min(collective_rank, hidden_size or collective_rank),
        personal_rank=min(personal_rank, hidden_size or personal_rank),
        stage1=StageConfig(epochs=first_epochs, learning_rate=first_rate),
        stage2=StageConfig(epochs=4, learning_rate=second_rate),
        stage1_users="all",
        stage1_data="both",
        strength=0.75,
        held_out=held_out,
        strength_prior=prior,
        chat_template=chat,
    )
