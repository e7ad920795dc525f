"""Parameters of all methods on Llama-2-7B, from its config alone, against the columns the paper prints."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from method_world import identity, tokenizer

from perfit.backbone.model import Backbone
from perfit.config import TABLE_9, paper_preset
from perfit.methods.method import Cost, Setting
from perfit.methods.registry import make_method
from perfit.tasks import get_task

LLAMA_2_7B = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
}
# Tables 2 and 3: share of the base in percent, and reduction against OPPU in percent, of both stages.
PRINTED = {
    "news_categorize": ((0.0058, 0.0117), (93.75, 81.25)),
    "movie_tagging": ((0.0078, 0.0010), (91.67, 98.44)),
    "product_rating": ((0.0117, 0.0015), (87.50, 97.66)),
    "news_headline": ((0.0117, 0.0015), (87.50, 97.66)),
    "scholarly_title": ((0.0039, 0.0010), (95.83, 98.44)),
    "tweet_paraphrase": ((0.0078, 0.0039), (91.67, 93.75)),
}
# Table 12: PerFit's collective parameters against those of LoRA-C (all).
RATIOS = {"news_categorize": 16, "movie_tagging": 12, "news_headline": 8, "tweet_paraphrase": 12}
# Table 13: LoRA-C, LoRA-P, OPPU (both stages together) and PerFit (the same, E.4's setting), in millions.
BACKBONES: dict[str, tuple[dict[str, int], tuple[float, float, float, float]]] = {
    "LLaMA3-8B": (
        {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8},
        (4.72, 3.41, 8.13, 1.57),
    ),
    "Qwen2.5-7B": (
        {"hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4},
        (3.44, 2.52, 5.96, 1.38),
    ),
    "LLaMA3-3B": (
        {"hidden_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 24, "num_key_value_heads": 8},
        (3.21, 2.29, 5.51, 1.18),
    ),
    "LLaMA3-1B": (
        {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8},
        (1.18, 0.85, 2.03, 0.79),
    ),
}


def on_meta(**shape: Any) -> Backbone:
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        return Backbone(
            LlamaForCausalLM(LlamaConfig(**{"vocab_size": 97, "intermediate_size": 64, **shape})), tokenizer()
        )


@cache
def llama() -> Backbone:
    return on_meta(**LLAMA_2_7B)


def cost(name: str, task: str, backbone: Backbone | None = None, **options: Any) -> Cost:
    where = Setting(backbone or llama(), identity("llama"), get_task(task), paper_preset(task), 0, Path("nowhere"))
    return make_method(name, where, **options).cost()


def base_parameters() -> int:
    return sum(parameter.numel() for parameter in llama().model.parameters())


def test_the_base_has_as_many_parameters_as_llama_2_7b() -> None:
    assert base_parameters() == 6_738_415_616


def test_lora_methods_have_the_papers_numbers() -> None:
    assert cost("lora-c", "news_categorize") == Cost(6_291_456, 0, 0)
    assert cost("lora-p", "news_categorize") == Cost(0, 4_194_304, 2 * 4_194_304)
    assert cost("oppu", "news_categorize") == Cost(6_291_456, 4_194_304, 2 * 4_194_304)


@pytest.mark.parametrize("task", PRINTED)
def test_shares_and_reductions_are_those_of_tables_2_and_3(task: str) -> None:
    ours, rival = cost("perfit", task), cost("oppu", task)
    stages = ("collective_parameters", "personal_parameters")
    shares, reductions = PRINTED[task]
    assert tuple(round(100 * getattr(ours, stage) / base_parameters(), 4) for stage in stages) == shares
    assert tuple(round(100 * (1 - getattr(ours, stage) / getattr(rival, stage)), 2) for stage in stages) == reductions


def test_the_abstracts_mean_reduction_is_not_the_mean_of_its_tables() -> None:
    reductions = [value for _, both in PRINTED.values() for value in both]
    assert round(sum(reductions) / len(reductions), 2) == 92.93  # the abstract says 92.3


@pytest.mark.parametrize("task", TABLE_9)
def test_parts_of_perfit_have_the_parameters_of_their_ranks(task: str) -> None:
    row, ours = TABLE_9[task], cost("perfit", task)
    layers, width = len(row.layers), 4096

    def of_rank(rank: int) -> int:
        return layers * (2 * rank * width + rank)

    assert (ours.collective_parameters, ours.personal_parameters) == (
        of_rank(row.collective_rank),
        of_rank(row.personal_rank),
    )
    assert cost("reft-p", task).personal_parameters == ours.personal_parameters
    assert cost("perfit-stage-2", task) == cost("reft-p", task)
    both = ours.collective_parameters + ours.personal_parameters
    assert cost("reft-c+p", task).personal_parameters == both == cost("perfit-stage-1", task).collective_parameters


@pytest.mark.parametrize("task", RATIOS)
def test_the_hybrids_have_table_12s_ratio(task: str) -> None:
    ours, whole = cost("perfit", task), cost("lora-c-all+perfit-p", task)
    partial = cost("lora-c-partial+perfit-p", task)
    assert round(whole.collective_parameters / ours.collective_parameters) == RATIOS[task]
    assert whole.personal_parameters == partial.personal_parameters == ours.personal_parameters
    assert partial.collective_parameters * 32 == whole.collective_parameters * len(TABLE_9[task].layers)


def test_lofit_tunes_32_heads_of_128() -> None:
    assert cost("lofit", "news_categorize").personal_parameters == 32 * 128


@pytest.mark.parametrize("name", BACKBONES)
def test_other_bases_have_table_13s_numbers(name: str) -> None:
    shape, printed = BACKBONES[name]
    backbone = on_meta(**shape)

    def both(method: str, **options: Any) -> float:
        found = cost(method, "movie_tagging", backbone, **options)
        return round((found.collective_parameters + found.personal_parameters) / 1e6, 2)

    ranks = {"collective_rank": 32, "personal_rank": 32, "layers": (7, 9, 11)}
    assert (both("lora-c"), both("lora-p"), both("oppu"), both("perfit", **ranks)) == printed


@pytest.mark.parametrize("name", ["base", "pag", "rag-1", "rag-2", "rag-4", "cos", "style-vector"])
def test_methods_without_training_have_no_parameters(name: str) -> None:
    found = cost(name, "news_headline")
    assert (found.collective_parameters, found.personal_parameters) == (0, 0)
