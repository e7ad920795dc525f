"""Generation is edited at the prompt only: against a loop that runs the whole sequence again for every token."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from families import NAMES, VOCABULARY, greedy_alone, naive_editing, padded_batch, picked, random_shift, tiny

from perfit.backbone.model import Backbone
from perfit.backbone.padding import left_padded
from perfit.backbone.taps import running
from perfit.edits.edit_plan import EditPlan, TwoStageShift
from perfit.edits.positions import Positions
from perfit.errors import ConfigError, DataError
from perfit.inference import decode
from perfit.inference.decoding import Decoding
from perfit.inference.generate import generate
from perfit.inference.label_set import LabelSet
from perfit.stop_strings import until_stop

PAIRS = ((1, 1), (0, 0), (1, 3), (2, 2))
LENGTHS = (9, 4, 12, 2)
RULE = "f2+l3"
LAYERS = (1, 2)
NEW = 5

families = pytest.mark.parametrize("family", NAMES)


@cache
def prompts() -> list[list[int]]:
    g = torch.Generator().manual_seed(2)
    return [torch.randint(3, VOCABULARY, (n,), generator=g).tolist() for n in LENGTHS]


@cache
def greedy(family: str, dtype: torch.dtype = torch.float32) -> list[list[int]]:
    backbone, shift = tiny(family, dtype), random_shift(LAYERS)
    return [
        greedy_alone(backbone, p, shift, pair, picked(RULE, len(p)), NEW)
        for p, pair in zip(prompts(), PAIRS, strict=True)
    ]


def texts(rows: Sequence[Sequence[int]]) -> list[str]:
    return [" ".join(map(str, row)) for row in rows]


def run(backbone: Backbone, **decoding: Any) -> list[str]:
    settings = Decoding(**{"max_new_tokens": NEW, **decoding})
    return generate(backbone, prompts(), PAIRS, random_shift(LAYERS), Positions.parse(RULE), settings)


@families
def test_cached_generation_equals_rerunning_the_whole_sequence(family: str) -> None:
    assert run(tiny(family)) == texts(greedy(family))


@families
def test_generated_tokens_are_never_edited(family: str) -> None:
    # The edited base would say something else if generated tokens were edited as well.
    backbone, shift = tiny(family), random_shift(LAYERS)
    everywhere = [
        greedy_alone(backbone, p, shift, pair, range(100), NEW) for p, pair in zip(prompts(), PAIRS, strict=True)
    ]
    assert texts(everywhere) != run(backbone)


@families
def test_without_a_cache_the_same_tokens_come(family: str) -> None:
    backbone, shift = tiny(family), random_shift(LAYERS)
    ids, mask, starts = padded_batch(prompts(), "left")
    plan = EditPlan.for_prompts(Positions.parse(RULE), LENGTHS, PAIRS, starts=starts)
    how = {"max_new_tokens": NEW, "do_sample": False, "use_cache": False, "pad_token_id": 0}
    with torch.no_grad():
        generating = partial(backbone.model.generate, input_ids=ids, attention_mask=mask, **how)
        out = running(generating, backbone.edits(plan, shift))
    assert out[:, ids.shape[1] :].tolist() == greedy(family)


@families
def test_bf16_generation_follows_the_same_rule(family: str) -> None:
    # bf16 rounds differently per batch shape, so a near tie may fall either way: most tokens must agree.
    got = [list(map(int, text.split())) for text in run(tiny(family, torch.bfloat16))]
    expected = greedy(family, torch.bfloat16)
    same = [sum(a == b for a, b in zip(x, y, strict=True)) for x, y in zip(got, expected, strict=True)]
    assert sum(same) >= 0.6 * NEW * len(PAIRS), (got, expected)
    assert sum(x[0] == y[0] for x, y in zip(got, expected, strict=True)) >= len(PAIRS) - 1


def beams_alone(
    backbone: Backbone, shift: TwoStageShift, prompt: Sequence[int], pair: tuple[int, int], beams: int
) -> list[int]:
    with torch.no_grad(), naive_editing(backbone, shift, pair, picked(RULE, len(prompt)), only_length=len(prompt)):
        out = backbone.model.generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=NEW,
            num_beams=beams,
            do_sample=False,
            pad_token_id=0,
        )
    tokens: list[int] = out[0, len(prompt) :].tolist()
    return tokens


@families
def test_beams_of_different_users_equal_each_alone(family: str) -> None:
    backbone, shift = tiny(family), random_shift(LAYERS)
    expected = [beams_alone(backbone, shift, p, pair, 3) for p, pair in zip(prompts(), PAIRS, strict=True)]
    assert run(backbone, beams=3) == texts(expected)


@pytest.mark.parametrize("limits", [{"batch_rows": 1}, {"batch_rows": 3}, {"batch_tokens": 20}, {"batch_tokens": 1}])
def test_batches_do_not_change_the_text_or_its_order(limits: dict[str, int]) -> None:
    assert run(tiny("mistral"), **limits) == texts(greedy("mistral"))


def test_every_prompt_is_reported_once() -> None:
    finished: list[int] = []
    settings = Decoding(max_new_tokens=1, batch_rows=3)
    generate(tiny("llama"), prompts(), PAIRS, random_shift(LAYERS), Positions.parse(RULE), settings, finished.append)
    assert finished == [3, 1]


def test_no_prompts_give_no_text() -> None:
    assert generate(tiny("llama"), [], [], random_shift(LAYERS), Positions.parse(RULE), Decoding()) == []


@pytest.mark.parametrize("where", ["model", "model list", "tokenizer"])
def test_text_ends_at_the_first_stop(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    backbone, expected = tiny("llama"), greedy("llama")
    stop = expected[0][2]
    if where == "tokenizer":
        monkeypatch.setattr(backbone.tokenizer, "eos_token_id", stop)
    else:
        monkeypatch.setattr(backbone.model.generation_config, "eos_token_id", [stop] if "list" in where else stop)
    cut = [row[: row.index(stop)] if stop in row else row for row in expected]
    assert run(backbone) == texts(cut)


@pytest.mark.parametrize("pad", [0, None])
def test_a_base_without_any_stop_runs_to_the_limit(monkeypatch: pytest.MonkeyPatch, pad: int | None) -> None:
    backbone = tiny("llama")
    monkeypatch.setattr(backbone.tokenizer, "eos_token_id", None)
    monkeypatch.setattr(backbone.tokenizer, "pad_token_id", pad)
    assert run(backbone) == texts(greedy("llama"))


HOW: list[dict[str, Any]] = [
    {},
    {"batch_rows": 1},
    {"batch_rows": 3},
    {"sample": True, "temperature": 1.5, "top_k": 50, "top_p": 1.0, "seed": 3},
    {"beams": 3},
]


# Greedily in every family; every other way, which no family has a part in, in two, and in all where there is time.
ENDED = [
    pytest.param(family, how, marks=[] if not how or family in ("llama", "gemma3") else pytest.mark.slow)
    for family in NAMES
    for how in HOW
]


@pytest.mark.parametrize(("family", "how"), ENDED, ids=str)
def test_a_row_ends_at_its_stop_string_and_no_other_row_notices(family: str, how: dict[str, Any]) -> None:
    whole = run(tiny(family), **how)
    for row, text in enumerate(whole):
        tokens = text.split()
        # Of one token, over the border of two, and one that nobody says.
        for stop in ((tokens[1],), (f"{tokens[2]} {tokens[3][0]}",), (tokens[4], tokens[3]), ("none",)):
            ended = run(tiny(family), stop=stop, **how)
            assert ended == [until_stop(one, stop) for one in whole]
            assert (ended[row] != text) == (stop != ("none",))


def test_a_row_that_is_through_runs_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    original = decode._forward

    def forward(backbone: Any, ids: torch.Tensor, *more: Any) -> torch.Tensor:
        steps.append(len(ids))
        return original(backbone, ids, *more)

    monkeypatch.setattr(decode, "_forward", forward)
    thirds = tuple(text.split()[2] for text in run(tiny("llama")))
    assert len(steps) == NEW
    steps.clear()
    run(tiny("llama"), stop=thirds)
    assert len(steps) <= 3


def test_the_name_of_a_control_token_ends_an_answer_at_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, expected = tiny("llama"), greedy("llama")
    end = expected[0][2]
    monkeypatch.setattr(
        type(backbone.tokenizer),
        "added_tokens_decoder",
        {end: SimpleNamespace(content="<|end|>"), 1: SimpleNamespace(content="<s>")},
    )
    cut = [row[: row.index(end)] if end in row else row for row in expected]
    assert run(backbone, stop=("<|end|>",)) == texts(cut)
    assert run(backbone, stop=("none",)) == texts(expected)


def test_given_answers_know_no_stop() -> None:
    with pytest.raises(ConfigError, match="within: given answers are whole; leave out stop"):
        Decoding(within=lambda prompt: LabelSet.of([[5]], ["a"]), stop=("a",))
    with pytest.raises(ConfigError, match=r"stop\[0\]: '' is empty"):
        Decoding(stop=("",))


def test_sampling_is_seeded_and_leaves_the_global_state_alone() -> None:
    backbone = tiny("llama")
    before = torch.random.get_rng_state()
    a, b, c = (run(backbone, sample=True, temperature=1.5, top_p=1.0, top_k=50, seed=s) for s in (1, 1, 2))
    assert a == b != c
    assert torch.equal(before, torch.random.get_rng_state())


def test_left_padding_puts_prompts_at_the_end() -> None:
    ids, mask, starts = left_padded([[5, 6, 7], [8]], torch.device("cpu"))
    assert ids.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert starts == [0, 2]


@pytest.mark.parametrize(
    "values",
    [
        {"max_new_tokens": 0},
        {"beams": 0},
        {"batch_tokens": 0},
        {"batch_rows": 0},
        {"sample": True, "temperature": 0.0},
        {"top_p": 0.0},
        {"top_p": 1.5},
    ],
)
def test_impossible_decoding_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=list(values)[-1]):
        Decoding(**values)


def test_a_sampled_row_does_not_depend_on_its_company() -> None:
    settings = {"sample": True, "temperature": 1.5, "top_k": 50, "top_p": 1.0, "seed": 1}
    backbone = tiny("llama")
    together = run(backbone, **settings)
    shift, rule = random_shift(LAYERS), Positions.parse(RULE)
    for prompt, pair, text in zip(prompts(), PAIRS, together, strict=True):
        assert generate(backbone, [prompt], [pair], shift, rule, Decoding(max_new_tokens=NEW, **settings)) == [text]
    assert run(backbone, **{**settings, "seed": 2}) != together


def test_a_rows_draws_depend_on_its_prompt_too() -> None:
    # A base that finds every token equally likely: what differs is the noise alone.
    model = copy.deepcopy(tiny("llama").model)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    backbone, shift, rule = Backbone(model, tiny("llama").tokenizer), random_shift(LAYERS), Positions.parse(RULE)
    settings = Decoding(NEW, sample=True, temperature=1.0, top_k=50, top_p=1.0)
    asked = [[5, 6, 7], [5, 6, 8], [5, 6, 7]]
    first, other, again = generate(backbone, asked, [(0, 0)] * 3, shift, rule, settings)
    assert first == again != other


def test_sampling_draws_from_the_warped_distribution() -> None:
    backbone = tiny("llama")
    shift, rule = random_shift(LAYERS), Positions.parse(RULE)
    ids, mask, _ = left_padded([prompts()[0]], backbone.device)
    best = backbone.logits(ids, mask)[0, -1].topk(2)
    share = best.values.softmax(-1)[0].item()
    drawn = [
        generate(backbone, [prompts()[0]], [(0, 0)], shift, rule, Decoding(1, True, 1.0, 2, 1.0, seed=seed))[0]
        for seed in range(200)
    ]
    assert set(drawn) == {str(token) for token in best.indices.tolist()}
    assert abs(drawn.count(str(best.indices[0].item())) / 200 - share) < 0.12


@pytest.mark.parametrize("beams", [1, 3])
def test_the_bases_own_generation_settings_stay_out(beams: int) -> None:
    backbone = tiny("llama")
    expected = run(backbone, beams=beams)
    own = backbone.model.generation_config
    own.repetition_penalty, own.min_new_tokens = 50.0, 3
    try:
        assert run(backbone, beams=beams) == expected
        assert backbone.model.generation_config is own
    finally:
        own.repetition_penalty, own.min_new_tokens = None, None


def test_a_prompt_without_tokens_is_refused() -> None:
    with pytest.raises(DataError, match="no tokens"):
        generate(tiny("llama"), [[]], [(0, 0)], random_shift(LAYERS), Positions.parse(RULE), Decoding())
