"""All methods by name, in the order of a table; each is imported when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from perfit.errors import ConfigError
from perfit.methods.options import make_options
from perfit.own import address_of, load

if TYPE_CHECKING:
    from perfit.methods.method import Method, Setting
    from perfit.tasks.task import Task

_ANSWERS = ("label", "rating")
_ANY = ("label", "rating", "text")
_PARTS = ("fit", "adapt", "predict", "cost")
ENTRY_POINTS = "perfit.methods"


@dataclass(frozen=True)
class NoOptions:
    """None."""


@dataclass(frozen=True)
class Maker:
    """How one method is made.

    Attributes:
        name: Its key.
        label: As the paper prints it.
        about: One line for ``--help``.
        module: Where it is.
        function: What makes it there, from name, label, setting and options; its ``Options``, or the module's, are theirs.
        fixed: Options that differ from their defaults.
        kinds: The kinds of task it answers.
        seeded: Whether chance has a part in it; the others give the same answers with every seed.
        joint: Whether it learns from all users' histories together, so that each user's answers depend on who is there.
        scores: Whether it can say how probable each label is; floors answer as ever.
        samples: Whether its answers can be drawn instead of being the likeliest.
        version: Raised, here and for what stands on it, whenever the same settings give other numbers than before.
    """

    name: str
    label: str
    about: str
    module: str
    function: str = "make"
    fixed: Mapping[str, Any] = field(default_factory=dict)
    kinds: tuple[str, ...] = _ANY
    seeded: bool = True
    joint: bool = False
    scores: bool = True
    samples: bool = True
    version: int = 1

    def options(self) -> type:
        """The dataclass of its options."""
        module = import_module(self.module)
        made = getattr(module, self.function)
        return cast(type, getattr(made, "Options", None) or getattr(module, "Options", NoOptions))

    def __call__(self, setting: Setting, **options: Any) -> Method:
        """The method.

        Raises:
            ConfigError: An unknown option, an impossible value, or a task it does not fit.
        """
        if setting.answers == "expected" and not self.scores:
            raise ConfigError(f"{self.name}: cannot score labels; leave it out, or choose answers free or labels")
        if setting.answers == "sampled" and not self.samples:
            raise ConfigError(f"{self.name}: answers greedily; leave it out, or choose answers free or labels")
        module = import_module(self.module)
        made: Any = make_options(self.name, self.options(), {**self.fixed, **options})
        method: Method = getattr(module, self.function)(self.name, self.label, setting, made)
        return method


_MAKERS = (
    Maker(
        "floor-majority",
        "Majority",
        "the answer everybody gives most often",
        "floors",
        kinds=_ANSWERS,
        seeded=False,
        joint=True,
    ),
    Maker(
        "floor-user-majority",
        "User majority",
        "the answer the user gave most often",
        "floors",
        kinds=_ANSWERS,
        seeded=False,
    ),
    Maker("floor-mean", "Mean", "the mean of all ratings", "floors", kinds=("rating",), seeded=False, joint=True),
    Maker("floor-user-mean", "User mean", "the mean of the user's ratings", "floors", kinds=("rating",), seeded=False),
    Maker(
        "floor-nearest", "Nearest past item", "the answer of the user's most similar past item", "floors", seeded=False
    ),
    Maker(
        "floor-linear",
        "Linear",
        "words and who the user is, a linear model on everybody's history",
        "floors",
        kinds=_ANSWERS,
        seeded=False,
        joint=True,
    ),
    Maker("base", "Non-Personalized", "the frozen base", "base", seeded=False),
    Maker("pag", "PAG", "a written profile before each prompt", "pag"),
    Maker("rag-1", "RAG (k=1)", "the nearest past item before each prompt", "rag", fixed={"k": 1}, seeded=False),
    Maker("rag-2", "RAG (k=2)", "the two nearest past items before each prompt", "rag", fixed={"k": 2}, seeded=False),
    Maker("rag-4", "RAG (k=4)", "the four nearest past items before each prompt", "rag", fixed={"k": 4}, seeded=False),
    Maker(
        "full-history",
        "Full history",
        "as much of the history as fits before each prompt",
        "full_history",
        seeded=False,
    ),
    Maker("cos", "CoS", "logits steered by the retrieved context", "cos", seeded=False, samples=False),
    Maker(
        "style-vector",
        "StyleVector",
        "own answers minus generic ones, added at a layer",
        "style_vector",
        seeded=False,
    ),
    Maker("lora-c", "LoRA-C", "one LoRA for everybody", "two_stage", "lora_c"),
    Maker("lora-p", "LoRA-P", "a LoRA per user", "two_stage", "lora_p"),
    Maker("lofit", "LoFiT", "biases at each user's picked attention heads", "lofit"),
    Maker("oppu", "OPPU", "LoRA-C, then a LoRA per user", "two_stage", "oppu"),
    Maker("reft-c+p", "ReFT (C+P)", "a LoReFT per user, both ranks together", "two_stage", "reft_cp"),
    Maker("reft-p", "ReFT (P)", "a LoReFT per user, the personal rank", "two_stage", "reft_p"),
    Maker("perfit-stage-1", "PerFit@Stage-1", "both shared shifts, nothing personal", "two_stage", "perfit_stage_1"),
    Maker(
        "perfit-stage-2", "PerFit@Stage-2", "PerFit's personal shift without a stage 1", "two_stage", "perfit_stage_2"
    ),
    Maker("lora-c-all+perfit-p", "LoRA-C (all) + PerFit-P", "LoRA-C, then a shift per user", "two_stage", "hybrid"),
    Maker(
        "lora-c-partial+perfit-p",
        "LoRA-C (partial) + PerFit-P",
        "LoRA-C at the edited layers, then a shift per user",
        "two_stage",
        "hybrid",
        fixed={"partial": True},
    ),
    Maker("perfit-code", "PerFit by code", "a collective shift, then a code of a few numbers per user", "perfit_code"),
    Maker("perfit", "PerFit", "a collective shift, then a shift per user", "two_stage", "perfit"),
)

METHODS: dict[str, Maker] = {maker.name: replace(maker, module=f"perfit.methods.{maker.module}") for maker in _MAKERS}
"""Perfit's own."""


def method_of(name: str) -> str:
    """The method that a variant such as ``perfit[retrieved=2]`` is one of; of a method, the name itself."""
    return name.partition("[")[0]


def maker_of(name: str) -> Maker | None:
    """How a method is made, or None where there is none of the name.

    Args:
        name: A key of ``METHODS``; ``package.module:Class``; or an entry point of the group "perfit.methods". Of one's own,
            a class made from name, label, setting and options. Its attributes ``label``, ``Options``, ``kinds``,
            ``scores`` and ``samples`` are taken where it has them.

    Raises:
        ConfigError: It cannot be imported, or is no method.
    """
    if name in METHODS:
        return METHODS[name]
    if (place := address_of(name, ENTRY_POINTS)) is None:
        return None
    kind = load(place, "methods")
    lacks = [part for part in _PARTS if not callable(getattr(kind, part, None))]
    if lacks or not callable(kind):
        raise ConfigError(f"methods: {place} is no method, it has no {', '.join(lacks)}; see docs/methods.md")
    about = (kind.__doc__ or "").strip().partition("\n")[0]
    module, _, function = place.partition(":")
    known = {part: getattr(kind, part) for part in ("kinds", "scores", "samples") if hasattr(kind, part)}
    return Maker(name, str(getattr(kind, "label", function)), about, module, function, **known)


def seeded(name: str) -> bool:
    """Whether a method's answers depend on the seed; of one that is not perfit's own they may."""
    method = method_of(name)
    return method not in METHODS or METHODS[method].seeded


def methods_for(task: Task, answers: str = "free") -> list[str]:
    """Names of the methods that answer this kind of task, in this way."""
    fitting = {name: maker for name, maker in METHODS.items() if task.kind in maker.kinds}
    can = {"expected": "scores", "sampled": "samples"}.get(answers)
    return [name for name, maker in fitting.items() if can is None or getattr(maker, can)]


def make_method(name: str, setting: Setting, **options: Any) -> Method:
    """A method by name.

    Args:
        name: As for ``maker_of``, or a variant's name, which begins with one and is printed as it stands.
        setting: What every method is given.
        options: Its own, by name; ``METHODS[name].options()`` lists them.

    Raises:
        ConfigError: An unknown name or option, an impossible value, or a task it does not fit.
    """
    method = method_of(name)
    if (maker := maker_of(method)) is None:
        raise ConfigError(f"methods: {method!r} is unknown; choose from {', '.join(METHODS)}")
    return replace(maker, name=name, label=maker.label + name.removeprefix(method))(setting, **options)
