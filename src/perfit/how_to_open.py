"""How a base is opened: where it runs, in which precision, which of its versions, and what is trusted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from perfit.errors import ConfigError
from perfit.extras import import_extra

QUANTIZATIONS = ("4bit", "8bit")
ATTENTIONS = ("sdpa", "eager", "flash_attention_2")


@dataclass(frozen=True)
class HowToOpen:
    """What may be wanted of a base beside its name; the same for every verb and for ``PerFit.from_pretrained``.

    Attributes:
        device: "auto" (cuda, else mps, else cpu), "cpu", "cuda", "cuda:1", ...
        dtype: "auto", "bfloat16", "float16" or "float32"; None: what the settings say.
        revision: Branch, tag or commit of a base on the hub; None: its main branch, or the commit a run was trained on.
        layers_path: Dotted path of the decoder layers where structure does not tell, or the one a run keeps.
        trust_remote_code: Run code that comes with the base.
        quantization: "4bit" (NF4) or "8bit", packed by bitsandbytes as it is loaded; None: as stored, or as a run keeps
            it. A packed base is another base: what was trained on one belongs to it alone.
        attention: transformers' implementation: "sdpa", "eager" or "flash_attention_2"; None: its own choice.
        verify: Read every byte of the base for its identity, though its hashes be remembered.
        more: What else transformers' loaders are to be told, by their names.

    Raises:
        ConfigError: ``quantization`` or ``attention`` is unknown.
    """

    device: str = "auto"
    dtype: str | None = None
    revision: str | None = None
    layers_path: str | None = None
    trust_remote_code: bool = False
    quantization: str | None = None
    attention: str | None = None
    verify: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, known in (("quantization", QUANTIZATIONS), ("attention", ATTENTIONS)):
            value = getattr(self, name)
            if value is not None and value not in known:
                raise ConfigError(f"{name}: {value!r} is unknown; choose {', '.join(known[:-1])} or {known[-1]}")

    @classmethod
    def of(cls, **options: Any) -> HowToOpen:
        """From options by name; those of transformers' loaders become ``more``."""
        own = {part.name for part in fields(cls)} - {"more"}
        more = {name: value for name, value in options.items() if name not in own}
        return cls(**{name: value for name, value in options.items() if name in own}, more=more)

    def given(self) -> dict[str, Any]:
        """What is wanted, by name, and nothing else: the opposite of ``of``."""
        wanted = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "more"}
        usual = {part.name: part.default for part in fields(self)}
        return {**{name: value for name, value in wanted.items() if value != usual[name]}, **self.more}

    def or_else(self, **options: Any) -> HowToOpen:
        """The same, with these options where nothing was wanted."""
        return replace(self, **{name: value for name, value in options.items() if getattr(self, name) is None})

    def of_loading(self) -> dict[str, Any]:
        """What was wanted that only loading can give, by its own names."""
        return {name: value for name, value in self.given().items() if name not in ("device", "dtype", "layers_path")}

    def loader_options(self, dtype: Any, device: str) -> dict[str, Any]:
        """What ``load_base`` is told beside dtype and device.

        Args:
            dtype: What a packed base computes in, a torch dtype.
            device: Where a packed base goes; it cannot be moved afterwards.

        Raises:
            ConfigError: ``attention`` needs a package that is not there.
            MissingExtraError: ``quantization`` does.
        """
        told = self.of_loading()
        if told.pop("attention", None) is not None:
            told["attn_implementation"] = _attention(self.attention)
        if told.pop("quantization", None) is not None:
            told |= {"quantization_config": _quantization(self.quantization, dtype), "device_map": {"": device}}
        return told


USUAL = HowToOpen()
"""Nothing special is wanted."""


def _attention(name: str | None) -> str | None:
    from transformers.utils import is_flash_attn_2_available

    if name == "flash_attention_2" and not is_flash_attn_2_available():
        raise ConfigError(
            "attention: 'flash_attention_2' needs CUDA and the package flash-attn, and they are not both here; install it "
            "(pip install flash-attn), or choose sdpa"
        )
    return name


def _quantization(name: str | None, dtype: Any) -> Any:
    import_extra("bitsandbytes", "bitsandbytes", "quantization")
    from transformers import BitsAndBytesConfig

    if name == "8bit":
        # It rounds to float16 and says so with every product.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        # Above 0, columns that are large anywhere in a batch are left whole in all of its rows: a row's numbers would
        # follow from whose rows are beside it.
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def quantization_of(model: Any) -> str | None:
    """How a loaded model was packed while it was loaded: "4bit", "8bit", or None, also where its files are packed."""
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is None or getattr(quantizer, "pre_quantized", True):
        return None
    how = quantizer.quantization_config
    return "4bit" if getattr(how, "load_in_4bit", False) else "8bit" if getattr(how, "load_in_8bit", False) else None
