"""Which runner trains on a base: the fast one where it proves equal to the plain one, which always works."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from perfit.backbone.model import Backbone
from perfit.config import PerFitConfig
from perfit.errors import ConfigError
from perfit.plan import TwoStageShift
from perfit.positions import Positions
from perfit.shift import Shift, ShiftBank, new_shift
from perfit.training.frozen import FrozenRunner
from perfit.training.loop import Emit
from perfit.training.plain import PlainRunner
from perfit.training.rows import Runner, TokenRow, common_prefix


def choose_runner(
    backbone: Backbone, config: PerFitConfig, rows: Sequence[TokenRow], emit: Emit = lambda event: None
) -> Runner:
    """The runner a config asks for. "auto" is the frozen one where it proves equal to the plain one on two rows.

    Raises:
        ConfigError: ``engine`` is "frozen" and this base cannot take it.
    """
    positions = Positions.parse(config.positions)
    unedited = sum(not positions.of(len(row.prompt_ids)) for row in rows)
    if unedited:
        text = (
            f"{unedited} of {len(rows)} prompts have no token at positions {positions}; they train and change nothing"
        )
        emit({"event": "warning", "text": text})
    if config.engine == "plain":
        return PlainRunner(backbone, positions)
    apart, problem = True, None
    if rows:
        problem = why_not_frozen(backbone, config, rows)
        if problem is not None:
            # Attention code of a family's own: it may still take what came before joined to its keys.
            apart = False
            problem = why_not_frozen(backbone, config, rows, apart=False)
    if problem is not None and config.engine == "frozen":
        raise ConfigError(f"engine: 'frozen' does not fit this base ({problem}); choose auto or plain")
    if problem is not None:
        emit({"event": "warning", "text": f"engine: plain, and slower, because the frozen one failed here: {problem}"})
        return PlainRunner(backbone, positions)
    return FrozenRunner(
        backbone,
        positions,
        config.layers,
        shared=common_prefix(rows),
        memory=config.memory_gib * 2**30,
        apart=apart,
    )


def why_not_frozen(
    backbone: Backbone, config: PerFitConfig, rows: Sequence[TokenRow], *, apart: bool = True
) -> str | None:
    """What goes wrong when the frozen runner takes two of these rows, or None when it equals the plain one.

    Architectures differ in more ways than their code tells (attention of their own, recurrent layers), so this is
    tried and not looked up.
    """
    by_length = sorted(rows, key=lambda row: len(row.input_ids))
    sample = [by_length[0], by_length[len(by_length) // 2]]
    positions = Positions.parse(config.positions)
    shape = (1, len(config.layers), 1, backbone.hidden_size)
    random = new_shift(shape, init="loreft", generator=torch.Generator().manual_seed(0), device=backbone.device)
    bank = ShiftBank(Shift(*(torch.cat([t, t]) for t in random.tensors().values())))
    shift = TwoStageShift(config.layers, bank, bank)
    losses = []
    try:
        runners: tuple[Runner, ...] = (
            PlainRunner(backbone, positions),
            FrozenRunner(backbone, positions, config.layers, shared=common_prefix(sample), apart=apart),
        )
        for runner in runners:
            with torch.no_grad():
                losses.append(runner.answer_loss(runner.prepare(sample), [(1, 1)] * len(sample), shift))
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError, NotImplementedError) as error:
        return f"{type(error).__name__} in its forward"
    allowed = 1e-3 if backbone.dtype == torch.float32 else 5e-2
    if not torch.allclose(losses[0], losses[1], rtol=allowed, atol=allowed):
        return "its losses differ from the plain runner's"
    return None
