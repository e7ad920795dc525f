"""A base that the caller has loaded: a model of transformers and its tokenizer, taken as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from perfit.backbone.load import LoadedBase, check_vocabulary, require_decoder_only
from perfit.device import AUTO
from perfit.errors import BaseModelError, ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NAMELESS = "a loaded "
"""How the name of a base begins that came from no folder and no hub."""


def is_model(base: object) -> TypeGuard[PreTrainedModel]:
    """Whether this is a model of transformers."""
    if base is None or isinstance(base, str | bytes):
        return False
    from transformers import PreTrainedModel

    return isinstance(base, PreTrainedModel)


def base_in_memory(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    *,
    dtype: str = "auto",
    device: str = AUTO,
    load_options: Mapping[str, Any] = {},
) -> LoadedBase:
    """A loaded model as a base; neither it nor the tokenizer is moved, cast or padded anew.

    Args:
        model: A decoder-only causal LM.
        tokenizer: Its tokenizer.
        dtype: As the setting: "auto", or what the model must be in.
        device: "auto", or where the model must be.
        load_options: What a loader would be told; nothing may be, for there is nothing to load.

    Raises:
        ConfigError: The tokenizer is missing or none, or something was wanted that only loading could give.
        BaseModelError: The model is not a decoder-only causal LM, or the tokenizer is another model's.
    """
    name = model.name_or_path or f"{NAMELESS}{type(model).__name__}"
    _check_tokenizer(tokenizer)
    assert tokenizer is not None
    if load_options:
        raise ConfigError(f"{next(iter(load_options))}: is for loading, and the model is loaded; leave it out")
    if device != AUTO and not _is_on(model.device, device):
        raise ConfigError(
            f"device: {device!r} is wanted and the loaded model is on {str(model.device)!r}; move it with model.to(...), or "
            "leave device out"
        )
    own = str(model.dtype).removeprefix("torch.")
    if dtype not in (AUTO, own):
        raise ConfigError(f"dtype: {dtype!r} is set and the loaded model is {own}; load it so, or set dtype to auto")
    require_decoder_only(model.config, name)
    if model.get_output_embeddings() is None:
        raise BaseModelError(
            f"{name}: a {type(model).__name__} has no head that predicts tokens; load it with AutoModelForCausalLM"
        )
    check_vocabulary(model, tokenizer, name)
    return LoadedBase(model, tokenizer, name)


def _check_tokenizer(tokenizer: object) -> None:
    if tokenizer is None:
        raise ConfigError(
            "tokenizer: is missing; a loaded model needs its own: from_pretrained(model, tokenizer=AutoTokenizer"
            ".from_pretrained(...))"
        )
    from transformers import PreTrainedTokenizerBase

    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        inner = isinstance(getattr(tokenizer, "tokenizer", None), PreTrainedTokenizerBase)
        way_out = (
            "give its .tokenizer" if inner else "give the tokenizer itself, as AutoTokenizer.from_pretrained(...) does"
        )
        raise ConfigError(f"tokenizer: an object of type {type(tokenizer).__name__} is no tokenizer; {way_out}")


def _is_on(where: Any, wanted: str) -> bool:
    import torch

    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ConfigError(f"device: {wanted!r} is not possible; leave it out, the model stays where it is") from error
    return bool(device.type == where.type and device.index in (None, where.index))
