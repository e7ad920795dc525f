"""Methods by name: what there is, and what a wrong name or option is answered with."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from method_world import ALL, ANNA, asks, make, ready, setting
from safetensors.torch import load_file
from small_base import TASK

from perfit.config import paper_preset
from perfit.errors import ConfigError
from perfit.methods.registry import METHODS, methods_for, seeded
from perfit.methods.stages import stage_of
from perfit.tasks import get_task


def test_every_method_of_the_paper_is_there() -> None:
    printed = {
        "Non-Personalized",
        "PAG",
        "RAG (k=1)",
        "RAG (k=2)",
        "RAG (k=4)",
        "StyleVector",
        "LoRA-C",
        "LoRA-P",
        "LoFiT",
        "OPPU",
        "ReFT (C+P)",
        "ReFT (P)",
        "PerFit@Stage-1",
        "PerFit@Stage-2",
        "LoRA-C (all) + PerFit-P",
        "LoRA-C (partial) + PerFit-P",
        "PerFit",
        "CoS",
    }
    assert printed <= {maker.label for maker in METHODS.values()}
    assert "floor-user-mean" not in methods_for(TASK)
    assert [name for name in methods_for(get_task("news_headline")) if name.startswith("floor")] == ["floor-nearest"]
    assert "floor-user-mean" in methods_for(get_task("product_rating"))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_what_it_is_and_documents_its_options(name: str, tmp_path: Path) -> None:
    maker = METHODS[name]
    documentation = maker.options().__doc__ or ""
    assert all(option.name in documentation for option in fields(maker.options()))
    if TASK.kind in maker.kinds:
        method = make(name, setting(tmp_path))
        assert (method.name, method.label) == (name, maker.label)


def test_unknown_names_are_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"methods: 'lora' is unknown; choose from floor-majority, .*, perfit$"):
        make("lora", setting(tmp_path))
    with pytest.raises(ConfigError, match=r"rag-1: ranks is not an option; it has k$"):
        make("rag-1", setting(tmp_path), ranks=2)
    with pytest.raises(ConfigError, match=r"base: k is not an option; it has none$"):
        make("base", setting(tmp_path), k=2)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("rag-1", {"k": 0}, "k: 0 is not possible"),
        ("rag-1", {"k": 1.5}, "k: 1.5 is not possible"),
        ("lora-p", {"rank": True}, "rank: True is not possible"),
        ("lora-p", {"dropout": 1.0}, "dropout: 1.0 is not possible"),
        ("lora-p", {"alpha": None}, "alpha: None is not possible"),
        ("oppu", {"personal_epochs": 0}, "personal_epochs: 0 is not possible"),
        ("lora-c", {"learning_rate": "fast"}, "learning_rate: 'fast' is not possible"),
        ("lofit", {"heads": 5, "candidates": 4}, "heads: 5 of only 4 candidates"),
        ("lofit", {"candidates": 1000}, "candidates: 1000 is more than the 16 heads"),
        ("style-vector", {"strengths": ()}, "strengths: none given"),
        ("style-vector", {"layers": (9,)}, "9 is not a layer"),
        ("cos", {"strength": -2.0}, "strength: -2.0 is not possible"),
        ("perfit", {"personal_rank": 0}, "personal_rank: 0 is not possible"),
        ("perfit", {"layers": (9,)}, "9 is not a layer"),
        ("lora-c-all+perfit-p", {"layers": (9,)}, "9 is not a layer"),
    ],
)
def test_impossible_options_are_said(name: str, options: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=says):
        make(name, setting(tmp_path), **options)


def test_rivals_train_as_long_as_perfit_and_as_the_paper_says_under_its_preset(tmp_path: Path) -> None:
    ours = setting(tmp_path)
    assert stage_of(ours, 2, None, None) == ours.config.stage2
    paper = type(ours)(
        ours.backbone, ours.identity, get_task("news_categorize"), paper_preset("news_categorize"), 0, tmp_path
    )
    assert (stage_of(paper, 1, None, None).epochs, stage_of(paper, 2, None, None).epochs) == (3, 2)
    own = stage_of(paper, 2, 7, 0.5)
    assert (own.epochs, own.learning_rate, own.batch_size) == (7, 0.5, 16)


@pytest.mark.parametrize("name", ALL)
def test_chance_has_a_part_where_the_registry_says_so(name: str, tmp_path: Path) -> None:
    said, kept = [], []
    for seed in (0, 1):
        where = setting(tmp_path / str(seed), seed=seed)
        method = ready(name, where, [ANNA])
        said.append(method.predict(asks(ANNA)))
        learnt = [load_file(path) for path in sorted(where.folder.rglob("users/*.safetensors"))]
        shared = [load_file(path) for path in sorted((tmp_path / str(seed) / "shared").rglob("coll*.safetensors"))]
        profile = method.work.adapted(ANNA).notes["profile"] if name == "pag" else None  # type: ignore[attr-defined]
        kept.append((profile, [{key: t.tolist() for key, t in tensors.items()} for tensors in (*learnt, *shared)]))
    assert seeded(name) == (kept[0] != kept[1])
    assert seeded(name) or said[0] == said[1]


def test_names_are_known_without_loading_anything_heavy() -> None:
    code = "import sys; from perfit.methods.registry import METHODS; print(len(METHODS), 'torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.split() == [str(len(METHODS)), "False"]
