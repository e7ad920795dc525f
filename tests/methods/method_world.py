"""A small world for methods: tiny bases of every family with a tokenizer of words, users who file notes, settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import families
import torch
from small_base import LABELS, TASK, WORDS, person
from torch import Tensor

from perfit.backbone.fingerprint import BaseIdentity
from perfit.backbone.model import Backbone
from perfit.backbone.taps import Tap
from perfit.config import PerFitConfig, StageConfig
from perfit.data.schema import User
from perfit.methods.method import Ask, Method, Setting
from perfit.methods.registry import METHODS, make_method

STAGE = StageConfig(epochs=2, batch_size=4, learning_rate=3e-2, clip=10.0)
CONFIG = PerFitConfig(
    layers=(1, 2),
    positions="l3",
    collective_rank=4,
    personal_rank=3,
    stage1=STAGE,
    stage2=STAGE,
    stage1_data="both",
    max_length=96,
    dtype="float32",
)
OPTIONS: dict[str, dict[str, Any]] = {"pag": {"tokens": 12, "words": 6}, "style-vector": {"strengths": (4.0,)}}
ANNA, BEN, CLEO = (person(name, history=4, queries=2) for name in ("anna", "ben", "cleo"))
OTHERS = [person(f"other-{n}", history=2, queries=1) for n in range(2)]


@cache
def tokenizer() -> Any:
    """One token a word; what is in no list is one token of its own."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    said = f"{TASK.prompt} {TASK.retrieval_item} User History: Answer: answer: 1 2 3 5".replace("{", "").replace(
        "}", ""
    )
    words = ["<pad>", "<s>", "</s>", "<unk>", *dict.fromkeys([*LABELS, *WORDS, *said.split()])]
    assert len(words) < families.VOCABULARY
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@cache
def base(family: str) -> Backbone:
    return Backbone(families.tiny(family).model, tokenizer(), name=family)


def identity(family: str) -> BaseIdentity:
    return BaseIdentity(
        family,
        families.WIDTH,
        families.DEPTH,
        families.VOCABULARY,
        "weights",
        "tokenizer",
        "config",
        "none",
        "tensors:x",
    )


def setting(
    folder: Path,
    family: str = "llama",
    *,
    seed: int = 0,
    listener: Callable[[Any], None] = lambda event: None,
    **changes: Any,
) -> Setting:
    config = CONFIG.with_options(**changes)
    return Setting(base(family), identity(family), TASK, config, seed, folder / "own", listener, folder / "shared")


def make(name: str, where: Setting, **options: Any) -> Method:
    return make_method(name, where, **(OPTIONS.get(name, {}) | options))


def asks(*users: User) -> list[Ask]:
    return [Ask(user, query) for user in users for query in user.queries]


def ready(name: str, where: Setting, users: Sequence[User], **options: Any) -> Method:
    """A method that has done both stages."""
    method = make(name, where, **options)
    method.fit(OTHERS)
    assert method.adapt(users) == {}
    return method


def weights(family: str) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in base(family).model.state_dict().items()}


def modules(family: str) -> dict[str, tuple[type, int]]:
    """Each module's type and its number of hooks, idle taps left out; other tests of the shared base may have left some."""

    def count(module: Any) -> int:
        hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
        return sum(not isinstance(getattr(hook, "__self__", None), Tap) for hook in hooks)

    return {name: (type(module), count(module)) for name, module in base(family).model.named_modules()}


def assert_untouched(family: str, before: dict[str, Tensor], shape: dict[str, tuple[type, int]]) -> None:
    model = base(family).model
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert modules(family) == shape
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training for module in model.modules())


ALL = tuple(name for name, maker in METHODS.items() if TASK.kind in maker.kinds)
