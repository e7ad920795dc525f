"""Which runner trains on a base: the fast one where it proves equal to the plain one, which always works."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.backbone.probe import probe
from perfit.config import PerFitConfig
from perfit.edits.edit_plan import TwoStageShift
from perfit.edits.positions import Positions
from perfit.edits.shift import Shift, ShiftBank, new_shift
from perfit.errors import ConfigError
from perfit.events import Listener, Planned, Warned, nobody
from perfit.training.frozen import FrozenRunner
from perfit.training.frozen_cache import FrozenHome
from perfit.training.keeping import choose_keeping
from perfit.training.memory import MemoryBudget, memory_budget
from perfit.training.plain import PlainRunner
from perfit.training.rows import Runner, TokenRow, common_prefix
from perfit.training.summary import RowSummary

_PROVED: WeakKeyDictionary[torch.nn.Module, set[bytes]] = WeakKeyDictionary()
"""On which base the frozen runner proved itself where, and on what rows: a comparison's methods ask again and again."""


_DIFFERS = "its losses differ from the plain runner's"


@dataclass(frozen=True)
class Chosen:
    """A runner, and the memory it may use."""

    runner: Runner
    memory: MemoryBudget


def choose_runner(
    backbone: Backbone,
    config: PerFitConfig,
    rows: RowSummary,
    listener: Listener = nobody,
    *,
    slots: int = 1,
    home: FrozenHome | None = None,
) -> Chosen:
    """The runner a config asks for. "auto" is the frozen one where it proves equal to the plain one on some rows.

    Args:
        backbone: The base.
        config: The settings.
        rows: All rows that will train.
        listener: Hears what was chosen, and why (``Planned``), and warnings.
        slots: Learners that train at once.
        home: Where frozen parts are kept between runs.

    Raises:
        ConfigError: ``engine`` is "frozen" and this base cannot take it, or ``memory_gib`` is too little.
    """
    positions = Positions.parse(config.positions)
    unedited = sum(count for length, count in rows.prompts.items() if not positions.of(length))
    if unedited:
        text = f"{unedited} of {rows.count} prompts have no token at positions {positions}; nothing is learnt from them"
        listener(Warned(text))
    memory = memory_budget(backbone, config, slots)
    if not rows.count:
        return Chosen(PlainRunner(backbone, positions), memory)
    listener(Planned(memory.line()))
    if config.engine == "plain":
        return Chosen(PlainRunner(backbone, positions), memory)
    rates = probe(backbone.device)
    listener(Planned(rates.line(backbone.dtype)))
    apart = rates.apart(backbone.dtype)
    problem = why_not_frozen(backbone, config, rows, apart=apart)
    if problem is not None and apart:
        # Attention code of a family's own: it may still take what came before joined to its keys.
        apart = False
        problem = why_not_frozen(backbone, config, rows, apart=False)
    if problem is not None and config.engine == "frozen":
        raise ConfigError(f"engine: 'frozen' does not fit this base ({problem}); choose auto or plain")
    if problem is not None:
        listener(Warned(f"engine: plain, and slower, because the frozen one failed here: {problem}"))
        return Chosen(PlainRunner(backbone, positions), memory)
    runner = FrozenRunner(
        backbone, positions, config.layers, shared=rows.prefix, memory=memory.frozen, apart=apart, home=home
    )
    # What lies in the cache already needs no room.
    there = runner.cache is not None and all(runner.cache.take(row) is not None for row in rows.sample)
    folder = home.folder if home is not None else None
    keeping = choose_keeping(runner.frozen, rows, memory.frozen, rates.rate(backbone.dtype), cache=folder, there=there)
    listener(Planned(f"{keeping.text}; {len(runner.frozen.shared)} tokens shared by all prompts"))
    if not keeping.keep_prefix or (home is not None and not keeping.cached):
        runner = FrozenRunner(
            backbone,
            positions,
            config.layers,
            shared=rows.prefix,
            memory=memory.frozen,
            apart=apart,
            keep_prefix=keeping.keep_prefix,
        )
    return Chosen(runner, memory)


def why_not_frozen(backbone: Backbone, config: PerFitConfig, rows: RowSummary, *, apart: bool = True) -> str | None:
    """What goes wrong when the frozen runner takes some of these rows, or None when it equals the plain one.

    Architectures differ in more ways than their code tells (attention of their own, recurrent layers), so this is
    tried and not looked up.
    """
    exact = backbone.dtype == torch.float32
    problem = _proof(backbone, config, rows.spread(2), apart, rounding=exact)
    if problem == _DIFFERS and not exact:
        # Rounding alone may move two rows as far: eight of them tell.
        problem = _proof(backbone, config, rows.spread(8), apart, rounding=True)
    return problem


def _proof(
    backbone: Backbone, config: PerFitConfig, sample: Sequence[TokenRow], apart: bool, *, rounding: bool
) -> str | None:
    proved = _PROVED.setdefault(backbone.model, set())
    told = repr((backbone.dtype, backbone.device, config.layers, config.positions, apart, sample))
    key = hashlib.sha256(told.encode()).digest()  # not the texts' tokens
    if key in proved:
        return None
    problem = _tried(backbone, config, sample, apart, rounding=rounding)
    if problem is None:  # what failed is tried again: memory may have been short
        proved.add(key)
    return problem


def _tried(
    backbone: Backbone, config: PerFitConfig, sample: Sequence[TokenRow], apart: bool, *, rounding: bool
) -> str | None:
    """As ``why_not_frozen`` on a sample; ``rounding``: whether a difference that rounding explains is none."""
    exact = backbone.dtype == torch.float32
    positions = Positions.parse(config.positions)
    shape = (1, len(config.layers), 1, backbone.hidden_size)
    random = new_shift(shape, init="loreft", generator=torch.Generator().manual_seed(0), device=backbone.device)
    bank = ShiftBank(Shift(*(torch.cat([t, t]) for t in random.tensors().values())))
    shift = TwoStageShift(config.layers, bank, bank)

    def losses(runner: Runner, rows: Sequence[TokenRow]) -> Tensor:
        with torch.no_grad():
            return runner.answer_loss(runner.prepare(rows), [(1, 1)] * len(rows), shift)

    plain = PlainRunner(backbone, positions)
    try:
        together = losses(plain, sample)
        frozen = losses(
            FrozenRunner(backbone, positions, config.layers, shared=common_prefix(sample), apart=apart), sample
        )
        allowed = 1e-3 if exact else 5e-2

        def again() -> Tensor:
            # What precision alone does to a loss; in float32 nothing that shows.
            with _rounded_once_more(backbone):
                return losses(plain, sample)

        like = (
            agree(together, frozen, again, allowed) if rounding else torch.allclose(together, frozen, allowed, allowed)
        )
        if not like:
            return _DIFFERS
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError, NotImplementedError) as error:
        return f"{type(error).__name__} in its forward"
    return None


@contextmanager
def _rounded_once_more(backbone: Backbone) -> Iterator[None]:
    """While it lasts, embeddings move by up to half a step of the base's precision, as one more rounding would move them.

    Rows that run in other company do not tell what rounding does: kernels may sum each row alike in batches of many
    shapes, and otherwise in another engine.
    """
    generator = torch.Generator().manual_seed(0)
    half = torch.finfo(backbone.dtype).eps / 2

    def move(_: Any, __: Any, states: Tensor) -> Tensor:
        noise = (torch.rand(states.shape, generator=generator) * 2 - 1).to(states.device)
        return (states.float() * (1 + half * noise)).to(states.dtype)

    hook = backbone.model.get_input_embeddings().register_forward_hook(move)
    try:
        yield
    finally:
        hook.remove()


def agree(plain: Tensor, other: Tensor, again: Callable[[], Tensor], allowed: float) -> bool:
    """Whether another runner's losses are the plain one's, as far as the base's precision can tell.

    Args:
        plain: Losses, [rows].
        other: The other runner's, [rows].
        again: Gives the plain runner's with one rounding more, [rows]: how far rounding alone goes. Called only where
            that decides.
        allowed: Relative and absolute difference that passes whatever rounding does.
    """
    if torch.allclose(plain, other, rtol=allowed, atol=allowed):
        return True
    rounding, difference = (plain - again()).square().mean().sqrt(), (plain - other).square().mean().sqrt()
    return bool(difference <= 3 * rounding)  # not true of what is not finite
