"""Repetition control of a task holds in engines as in the library, row by row, on prompt and answer."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import families
import pytest
from served_run import site, train
from served_world import LAYERS, SMALL, World, answered, batched, prompt, reference, tokens_of
from small_base import TASK_RECORD

from perfit.edits.edit_plan import TwoStageShift
from perfit.edits.positions import Positions
from perfit.edits.shift import from_stored
from perfit.errors import ConfigError
from perfit.inference.decoding import Decoding
from perfit.inference.generate import generate
from perfit.serving.engine import Request
from perfit.tasks.custom import task_from_mapping
from perfit.training.stages import bank_of

LLAMA = families.tiny("llama")
RULES: list[dict[str, float]] = [{"repetition_penalty": 1.6}, {"no_repeat_ngram": 2}, {}]
NEW = 14
NOTE = "river stone lamp boat river stone lamp"


def repeats(tokens: list[int], n: int = 2) -> bool:
    grams = list(zip(*(tokens[k:] for k in range(n)), strict=False))
    return len(set(grams)) < len(grams)


@pytest.mark.parametrize("make", [reference, lambda world, base: batched(world, base, SMALL)])
def test_rows_beside_each_other_keep_their_own_rule(make: object) -> None:
    world = World()
    who = [world.train(name) for name in ("anna", "ben", "cleo")]
    # One prompt for all, with much of the vocabulary: nothing but shift and rule may make the answers differ.
    asked = prompt(3, 40)
    requests = [
        Request(f"{user.user} {n}", asked, user, max_new_tokens=NEW, **rule)  # type: ignore[arg-type]
        for user in who
        for n, rule in enumerate(RULES)
    ]
    found = [[token.id for token in tokens_of(one)] for one in answered(make(world, LLAMA), requests)]  # type: ignore[operator]
    first, _ = next(iter(world.collectives.values())).shifts
    seen: list[set[tuple[int, ...]]] = [set() for _ in RULES]
    for place, (request, said) in enumerate(zip(requests, found, strict=True)):
        assert request.who is not None
        second = from_stored(world.personal(request.who).tensors)
        shift = TwoStageShift(LAYERS, bank_of([first], "cpu"), bank_of([second], "cpu"))
        how = Decoding(
            max_new_tokens=NEW,
            repetition_penalty=request.repetition_penalty,
            no_repeat_ngram=request.no_repeat_ngram,
        )
        library = generate(LLAMA, [asked], [(1, 1)], shift, Positions.parse(request.who.positions), how)
        assert library == [" ".join(map(str, said))]
        seen[place % len(RULES)].add(tuple(said))
        if request.no_repeat_ngram:
            assert not repeats(said)
            told = set(pairwise(asked))
            assert not told & set(pairwise(said)), "the prompt's tokens count as said"
    assert any(repeats(said) for said in found)
    assert not seen[0] & seen[2], "a penalty that changes nothing"
    assert not seen[1] & seen[2], "a rule that changes nothing"
    assert any(len(one) > 1 for one in seen), "shifts that do nothing"


def test_sampling_is_controlled_and_log_probabilities_are_the_bases_own() -> None:
    world = World()
    asked, who = prompt(4, 9), world.train("anna")
    for engine in (reference(world, LLAMA), batched(world, LLAMA, SMALL)):
        plain = Request("plain", asked, who, max_new_tokens=40, temperature=0.4, seed=2)
        ruled = Request("ruled", asked, who, max_new_tokens=40, temperature=0.4, seed=2, no_repeat_ngram=1)
        free, held = answered(engine, [plain, ruled])
        assert repeats([token.id for token in tokens_of(free)], 1)
        said = [token.id for token in tokens_of(held)]
        assert len(set(said) | set(asked)) == len(said) + len(set(asked))
        penal = Request("penal", asked, who, max_new_tokens=1, repetition_penalty=3.0, n_logprobs=families.VOCABULARY)
        ((token, _),) = answered(engine, [penal])
        assert math.isclose(sum(math.exp(logprob) for _, logprob in token.top), 1, rel_tol=1e-4)  # type: ignore[union-attr]
        assert dict(token.top)[token.id] == token.logprob  # type: ignore[union-attr]


def test_impossible_rules_are_refused() -> None:
    with pytest.raises(ConfigError, match="repetition_penalty"):
        Request("a", (1,), repetition_penalty=0.0)
    with pytest.raises(ConfigError, match="no_repeat_ngram"):
        Request("a", (1,), no_repeat_ngram=-1)


@pytest.fixture(scope="module", params=["text", "label"])
def kind_and_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    record = {**TASK_RECORD, "repetition_penalty": 1.7, "no_repeat_ngram": 2, "max_new_tokens": 12}
    if request.param == "text":
        record["kind"] = "text"
        del record["labels"]
    return request.param, train(tmp_path_factory.mktemp(request.param), task_from_mapping(record))


@pytest.mark.parametrize("engine", ["reference", "transformers"])
def test_routes_answer_as_generate_does(kind_and_run: tuple[str, Path], engine: str) -> None:
    kind, run = kind_and_run
    with site(run, engine=engine) as served:
        users = ["anna", "ben", "cleo", "collective", "base"]
        perfit = served.perfit
        texts = perfit.generate([NOTE] * len(users), users, listener=lambda event: None)
        unruled = perfit.generate(
            [NOTE] * len(users), users, repetition_penalty=1.0, no_repeat_ngram=0, listener=lambda event: None
        )
        assert texts != unruled
        whole = perfit.task.prompt.replace("{input}", NOTE)
        for user, text in zip(users, texts, strict=True):
            said = served.post("/v1/completions", {"user": user, "prompt": whole}).json()
            assert said["choices"][0]["text"] == text
            answer = served.post("/v1/tasks/answer", {"user": user, "input": NOTE}).json()
            if kind == "text":
                assert answer["answer"] == text.strip()
            else:
                scores = perfit.score_labels([NOTE], [user], listener=lambda event: None)[0]
                assert answer["answer"] == perfit.task.labels[int(scores.argmax())]
