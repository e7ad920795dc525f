"""What the paper's own size would take: hours of one accelerator and its memory, from counts and a few stated rates.

Nothing here was measured on the paper's bases. The model counts tokens and parameters: training a step costs two
products of every weight going forward and two going back (weights are frozen and get no gradient of their own),
answering reads every weight once a token and batch. Attention over the sequence is left out; at these lengths it is a
few percent.
"""

from __future__ import annotations

from dataclasses import dataclass

from perfit.errors import ConfigError

INSTRUCTION_TOKENS = {"label": 110, "rating": 40, "text": 20}
"""About what the protocol's prompts add to the article, by kind of task."""


@dataclass(frozen=True)
class Accelerator:
    """Rates that are reached, not those of a data sheet.

    Attributes:
        name: What it is.
        tflops: bf16 TFLOP/s that training reaches.
        bandwidth: GB/s that reading weights reaches.
        gib: Memory.
    """

    name: str = "one 80 GiB data-centre GPU"
    tflops: float = 150.0
    bandwidth: float = 1500.0
    gib: float = 80.0

    def __post_init__(self) -> None:
        for field in ("tflops", "bandwidth", "gib"):
            if not getattr(self, field) > 0:
                raise ConfigError(f"{field}: {getattr(self, field)!r} is not possible; give a positive number")


@dataclass(frozen=True)
class Load:
    """What one cell has to do.

    Attributes:
        train_tokens: Tokens that training runs, all epochs and both stages.
        prompt_tokens, answers, answer_tokens: Tokens of all prompts; how many answers, and the most tokens of one.
    """

    train_tokens: float
    prompt_tokens: float
    answers: float
    answer_tokens: float


@dataclass(frozen=True)
class Estimate:
    """Hours and memory of one cell."""

    hours: float
    gib: float


def estimate(
    load: Load, parameters: int, hidden: int, layers: int, tokens_at_once: int, gpu: Accelerator, rows: int = 16
) -> Estimate:
    """The cost of a load on a base.

    Args:
        load: What is to be done.
        parameters: Of the base.
        hidden, layers: Its width and depth.
        tokens_at_once: Tokens of one training step.
        gpu: What runs it.
        rows: Answers decoded together.
    """
    flops = 4 * parameters * load.train_tokens + 2 * parameters * load.prompt_tokens
    decode = load.answers / rows * load.answer_tokens * 2 * parameters / (gpu.bandwidth * 1e9)
    hours = (flops / (gpu.tflops * 1e12) + decode) / 3600
    # Weights in bf16, and of each token and layer about 34 numbers a unit of width kept for the way back.
    memory = 2 * parameters + 34 * hidden * layers * tokens_at_once
    return Estimate(hours, memory / 2**30)
