"""The files of a base that decide its answers, wherever the base lies, and one digest over all their bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from perfit.backbone.file_hashes import remembered_hash

_ALWAYS = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "merges.txt", "vocab.txt")
_WEIGHTS = ("model.safetensors", "model-*.safetensors", "*.safetensors", "pytorch_model*.bin")


def deciding_files(folder: Path) -> list[Path]:
    """Weights, configuration, tokenizer, chat template, and code that comes with the weights."""
    found = [folder / name for name in _ALWAYS if (folder / name).is_file()]
    # Where tokenizer.json is, the older forms of the same tokenizer are not read.
    there = [folder / name for name in _TOKENIZERS if (folder / name).is_file()]
    found += there[:1] if there and there[0].name == "tokenizer.json" else there
    found += next((weights for kind in _WEIGHTS if (weights := sorted(folder.glob(kind)))), [])
    return sorted({*found, *folder.glob("*.py")})


def files_digest(folder: Path, *, anew: bool = False) -> str:
    """SHA-256 over names and bytes of all deciding files: the same for any precision or device they are loaded in.

    Args:
        folder: The base as ``save_pretrained`` writes it.
        anew: Read everything, whatever is remembered of it.

    Raises:
        OSError: A file cannot be read.
    """
    digest = hashlib.sha256()
    for path in deciding_files(folder):
        digest.update(f"{path.name} {remembered_hash(path, anew=anew)}\n".encode())
    return digest.hexdigest()
