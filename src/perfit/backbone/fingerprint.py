"""Which base model this is: the identity an artifact carries, so that it refuses any other base."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from perfit.backbone.tokenizer_turn import TURN
from perfit.durable.identity import digest_of
from perfit.errors import BaseModelError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_SAMPLES = 1024
_PROBES = (
    "Which category does this article relate to? category: politics",
    "  Two spaces,\n\n5 new lines\t\tand 12345 digits: 3.14, 1,000 and v2.0  10",
    "don't “quote” — naïve café e\u0301 漢字 😀 Ünïcödé 𝔘 ½ x²",
    "<s></s><b>bold</b> {'code': [1, 2]} https://example.org/a?b=c&d #tag @user",
    " leading and trailing ",
)
_DECIDES = re.compile(
    r"(eps|epsilon|norm|act|activation|rope|rotary|alibi|heads?|head_dim|n_head|intermediate|inner|ffn|softcap\w*|scalar"
    r"|multiplier|scaling|scale|window|layer_types|pattern|bias|tie_word|experts?|parallel|bidirectional|position)"
)
_ABSENT = "none"
_WORDS = {
    "architecture": "architecture",
    "hidden_size": "hidden size",
    "n_layers": "number of layers",
    "vocab_size": "vocabulary size",
    "weights": "weights",
    "tokenizer": "tokenizer",
    "config": "configuration",
    "chat_template": "chat template",
    "contents": "content of the files",
}


@dataclass(frozen=True)
class BaseIdentity:
    """What tells one base model from another.

    Attributes:
        architecture: Class name of the model, e.g. ``LlamaForCausalLM``.
        hidden_size: Width d of the hidden states.
        n_layers: Number of decoder layers.
        vocab_size: Rows of the embedding.
        weights: Hash of the weights, see :func:`weights_fingerprint`.
        tokenizer: Hash of the tokenizer, see :func:`tokenizer_fingerprint`.
        config: Hash of the settings that decide what the layers compute, see :func:`config_fingerprint`.
        chat_template: Hash of the tokenizer's chat template; "none" where there is none.
        contents: Hash of every byte: "files:…" of what it was loaded from, "tensors:…" of a model made in memory.
    """

    architecture: str
    hidden_size: int
    n_layers: int
    vocab_size: int
    weights: str
    tokenizer: str
    config: str
    chat_template: str
    contents: str

    def as_dict(self) -> dict[str, str | int]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BaseIdentity:
        """Read what :meth:`as_dict` wrote; unknown keys are ignored.

        Raises:
            BaseModelError: A part is missing or has the wrong type.
        """
        for part in fields(cls):
            wanted = int if part.name in ("hidden_size", "n_layers", "vocab_size") else str
            if type(values.get(part.name)) is not wanted:
                raise BaseModelError(
                    f"the identity of the base model lacks a valid {_WORDS[part.name]} ({part.name!r})"
                )
        return cls(**{part.name: values[part.name] for part in fields(cls)})

    @property
    def digest(self) -> str:
        """One hash over all parts."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()

    def differences(self, other: BaseIdentity) -> list[str]:
        """One phrase per part in which ``other`` differs, e.g. ``hidden size is 64, not 32``.

        Contents of files and of tensors in memory have nothing to compare; the samples of the weights then decide.
        """
        mine, theirs = self.as_dict(), other.as_dict()
        if self.contents.partition(":")[0] != other.contents.partition(":")[0]:
            del mine["contents"]
        return [
            f"{_WORDS[key]} is {_short(theirs[key])}, not {_short(mine[key])}"
            for key in mine
            if mine[key] != theirs[key]
        ]

    def check(self, other: BaseIdentity) -> None:
        """Make sure that ``other``, the model at hand, is this one.

        Raises:
            BaseModelError: It is not; the message names each part that differs.
        """
        if found := self.differences(other):
            raise BaseModelError(
                f"this belongs to another base model: {'; '.join(found)}; load the base it was made with"
            )


def _short(value: str | int) -> str:
    if not isinstance(value, str) or len(value) < 64:
        return str(value)
    return f"{value.rpartition(':')[2][:12]}…"


def base_identity(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, contents: str | None = None
) -> BaseIdentity:
    """The identity of a loaded base model; well under a second for 135M parameters.

    Args:
        model, tokenizer: The base.
        contents: ``files_digest`` of what it was loaded from; of its tensors when not given.

    Raises:
        BaseModelError: The weights are not loaded (they lie on the meta device).
    """
    config: Any = model.config.get_text_config()
    template = getattr(tokenizer, "chat_template", None)
    return BaseIdentity(
        architecture=type(model).__name__,
        hidden_size=int(config.hidden_size),
        n_layers=int(config.num_hidden_layers),
        vocab_size=int(config.vocab_size),
        weights=weights_fingerprint(model),
        tokenizer=tokenizer_fingerprint(tokenizer),
        config=config_fingerprint(config),
        chat_template=_ABSENT if not template else digest_of(template),
        contents=f"tensors:{tensors_digest(model)}" if contents is None else f"files:{contents}",
    )


def config_fingerprint(config: Any) -> str:
    """SHA-256 over the settings that decide what layers compute: norms, activations, positions, heads, scales.

    By name, so that settings of loading, generating and bookkeeping, and those a later transformers adds to it, do not
    make another base.
    """
    values = {name: value for name, value in config.to_dict().items() if not name.startswith("_")}
    kept = {name: value for name, value in values.items() if value is not None and _DECIDES.search(name)}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()


def tensors_digest(model: torch.nn.Module) -> str:
    """SHA-256 over name, type, shape and every byte of all parameters and stored buffers, as they are in memory."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not isinstance(tensor, torch.Tensor) or tensor.is_meta:
            continue  # weights_fingerprint refuses those that matter
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def weights_fingerprint(model: torch.nn.Module) -> str:
    """SHA-256 over each parameter's name, shape and up to 1,024 evenly spaced values, rounded to bf16.

    Rounding makes it the same for a model loaded as fp32 and as bf16, on any device. Tied parameters count once. A
    sample is not proof against tampering with single weights; it tells trained, fine-tuned or quantised bases apart.
    Packed (integer) weights are hashed as they are, so a quantised base is another base.

    Raises:
        BaseModelError: A parameter lies on the meta device.
    """
    import torch

    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        values = parameter.detach()
        if values.is_meta:
            raise BaseModelError(f"the weight {name!r} is not loaded; load the whole model before using it")
        digest.update(f"{name}{tuple(values.shape)}".encode())
        count = values.numel()
        if not count:
            continue
        size = min(_SAMPLES, count)
        # Integers throughout: float positions would round differently in large tensors.
        places = torch.arange(size, device=values.device) * (count - 1) // max(size - 1, 1)
        sample = values.reshape(-1)[places]
        raw = sample.to(torch.bfloat16).view(torch.int16) if sample.is_floating_point() else sample.to(torch.int64)
        digest.update(raw.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 over the vocabulary, the bos, eos and unk ids, and the ids of a few fixed texts.

    The texts stand for everything between text and ids (normaliser, digit and space rules, merges, added bos). The
    tokenizer's own JSON is not used: it changes with truncation and padding state and with the version of the library.
    The pad token does not count, because padding is masked.
    """
    digest = hashlib.sha256()
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    digest.update(json.dumps(vocabulary).encode())
    special = [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id]
    digest.update(json.dumps(special).encode())
    marks = [token for token in (tokenizer.bos_token, tokenizer.eos_token) if token]
    for text in (*_PROBES, *(f"a{mark}b" for mark in marks)):
        for with_special in (True, False):
            with TURN:
                ids = tokenizer(text, add_special_tokens=with_special, truncation=False, padding=False)["input_ids"]
            digest.update(json.dumps(ids).encode())
    return digest.hexdigest()
