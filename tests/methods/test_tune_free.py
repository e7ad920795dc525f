"""Methods that train nothing: what they show the base, and how CoS and StyleVector steer it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from method_world import ANNA, BEN, OTHERS, asks, base, make, ready, setting
from small_base import LABELS, TASK, write_base
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.data.schema import HistoryItem, Query, User
from perfit.errors import ConfigError, DataError, StoreError
from perfit.inference.decoding import Decoding
from perfit.inference.edited import Edited
from perfit.methods.cos import steered
from perfit.methods.pag import Pag
from perfit.methods.profile_prompts import profile_prompt
from perfit.methods.prompts import Prompts
from perfit.retrieval import HistoryIndex
from perfit.tasks import get_task

LAMP = ("movie_tagging", "news_categorize", "news_headline", "product_rating", "scholarly_title", "tweet_paraphrase")


def decoded(tokens: tuple[int, ...]) -> str:
    return str(base("llama").tokenizer.decode(tokens))


# RAG and CoS


@pytest.mark.parametrize("k", [1, 2, 4])
def test_rag_shows_the_nearest_past_items_best_first(k: int, tmp_path: Path) -> None:
    ask = asks(ANNA)[0]
    text = decoded(Prompts(setting(tmp_path)).retrieved(ask, k))
    found = HistoryIndex(TASK, ANNA).top(ask.query, k)
    assert len(found) == k
    places = [text.index(item.fields["text"]) for item in found]
    assert places == sorted(places)
    assert text.endswith(decoded(Prompts(setting(tmp_path)).plain(ask)))
    assert sum(item.fields["text"] in text for item in ANNA.history) == k


def test_the_answer_to_a_query_is_never_looked_at(tmp_path: Path) -> None:
    known = asks(ANNA)
    hidden = [type(ask)(ask.user, type(ask.query)(ask.query.id, ask.query.input)) for ask in known]
    for name in ("rag-2", "cos", "floor-nearest"):
        method = ready(name, setting(tmp_path / name), [ANNA])
        assert method.predict(known) == method.predict(hidden)


def test_cos_without_strength_is_rag_and_at_minus_one_the_base(tmp_path: Path) -> None:
    asked = asks(ANNA, BEN)
    for strength, other in ((0.0, "rag-2"), (-1.0, "base")):
        cos = make("cos", setting(tmp_path), k=2, strength=strength)
        assert cos.predict(asked) == make(other, setting(tmp_path)).predict(asked)


def test_cos_is_greedy_on_the_steered_logits() -> None:
    backbone, pairs = base("llama"), [((5, 9, 7, 30, 12, 8), (30, 12, 8)), ((11, 12, 13, 14), (14,))]
    got = steered(backbone, pairs, 1.5, Decoding(5))
    changed = 0
    for (longer, shorter), text in zip(pairs, got, strict=True):
        tokens: list[int] = []
        for _ in range(5):
            with torch.no_grad():
                rows = [
                    backbone.model(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0, -1]
                    for prompt in (longer, shorter)
                ]
            token = int((rows[0] + 1.5 * (rows[0] - rows[1])).argmax())
            changed += token != int(rows[0].argmax())
            tokens.append(token)
        if 2 in tokens:
            tokens = tokens[: tokens.index(2)]
        assert text == backbone.tokenizer.decode(tokens, skip_special_tokens=True)
    assert changed


# PAG


@pytest.mark.parametrize("name", LAMP)
def test_profiles_are_asked_for_in_the_protocols_words(name: str) -> None:
    text = profile_prompt(get_task(name), ["one it's", "two"])
    assert text.endswith("""User History: ["one it's", 'two'] Answer:""")
    assert text.startswith(("Look at the following past", "Given this", "Based on this user’s past reviews"))


def test_the_writer_sees_some_past_items_cut_short(tmp_path: Path) -> None:
    pag = make("pag", setting(tmp_path), items=2, words=4)
    assert isinstance(pag, Pag)
    text = decoded(tuple(pag._tokens(base("llama"), ANNA)))
    parts = [item.fields["text"].split() for item in ANNA.history]  # a quotation mark hangs on each first word
    assert sum(" ".join(words[1:4]) in text for words in parts) == 2
    assert not any(" ".join(words[1:5]) in text for words in parts)
    assert pag._tokens(base("llama"), ANNA) == pag._tokens(base("llama"), ANNA)


def test_the_profile_stands_before_the_prompt_and_loses_its_end_before_the_prompt_loses_anything(
    tmp_path: Path,
) -> None:
    events: list[Any] = []
    ask = asks(ANNA)[0]
    prompts = Prompts(setting(tmp_path, listener=events.append))
    whole = decoded(prompts.plain(ask))
    assert decoded(prompts.after("winter song", ask)) == f"winter song {whole}"
    long = decoded(prompts.after("winter " + "song " * 200, ask))
    assert long.startswith("winter song")
    assert long.endswith(whole)
    prompts.warn()
    assert [event.text for event in events] == ["1 prompts with a shortened text before them"]


def test_profiles_are_kept_as_text_and_another_model_may_write_them(tmp_path: Path) -> None:
    own = ready("pag", setting(tmp_path / "own"), [ANNA])
    writer = write_base(tmp_path / "writer")
    other = ready("pag", setting(tmp_path / "other"), [ANNA], writer=str(writer))
    profile = other.work.adapted(ANNA).notes["profile"]  # type: ignore[attr-defined]
    assert profile
    assert other.cost().user_bytes == len(profile.encode())
    assert profile != own.work.adapted(ANNA).notes["profile"]  # type: ignore[attr-defined]


def test_a_profile_prompt_that_cannot_fit_is_a_problem_of_that_user(tmp_path: Path) -> None:
    pag = make("pag", setting(tmp_path), prompt_tokens=5)
    assert pag.adapt([ANNA]) == {"anna": "a prompt with 4 past items does not fit the 5 tokens of the writer"}


# StyleVector


def test_generic_answers_end_where_the_task_s_answers_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = setting(tmp_path)
    seen: list[tuple[str, ...]] = []
    texts = Edited.texts

    def watched(self: Edited, prompts: Any, users: Any, decoding: Decoding, *rest: Any) -> list[str]:
        seen.append(decoding.stop)
        return texts(self, prompts, users, decoding, *rest)

    monkeypatch.setattr(Edited, "texts", watched)
    ready("style-vector", replace(where, task=replace(TASK, stop=("\n",))), [ANNA], strengths=(2.0,), layers=(1,))
    assert seen == [("\n",)]


def test_a_style_vector_is_the_mean_difference_at_the_last_token(tmp_path: Path) -> None:
    where = setting(tmp_path)
    method = ready("style-vector", where, [ANNA], strengths=(2.0,), layers=(1,))
    kept = method.work.adapted(ANNA)  # type: ignore[attr-defined]
    backbone, prompts = where.backbone, Prompts(where)

    def state(tokens: tuple[int, ...]) -> Any:
        with torch.no_grad():
            out = backbone.model(input_ids=torch.tensor([tokens]), output_hidden_states=True)
        return out.hidden_states[2][0, -1]

    differences = []
    for item in ANNA.history:
        example = TASK.history_example(item)
        row = prompts.row(example)
        with torch.no_grad():
            new = backbone.model.generate(
                torch.tensor([row.prompt_ids]),
                max_new_tokens=prompts.limit,
                do_sample=False,
                eos_token_id=2,
                pad_token_id=0,
            )[0, len(row.prompt_ids) :]
        generic = backbone.tokenizer.decode(new, skip_special_tokens=True)
        own = (*row.prompt_ids, *row.answer_ids[:-1])
        differences.append(state(own) - state(prompts.answered(example, generic)))
    expected = 2.0 * torch.stack(differences).mean(0)
    torch.testing.assert_close(kept.tensors["vector"].float(), expected, rtol=1e-2, atol=1e-2)
    assert (kept.notes["layer"], kept.notes["strength"]) == (1, 2.0)


def test_layer_and_strength_make_held_out_answers_most_likely(tmp_path: Path) -> None:
    method: Any = make("style-vector", setting(tmp_path), strengths=(0.5, 3.0), layers=(0, 2))
    rows = Prompts(setting(tmp_path)).maker.history_rows(ANNA)[:1]
    vectors = torch.randn(2, 32)
    losses = {
        (place, strength): method._loss(place, strength * vectors[place], rows)
        for place in (0, 1)
        for strength in (0.5, 3.0)
    }
    assert len(set(losses.values())) == 4
    assert method._choose(vectors, rows) == min(losses, key=losses.__getitem__)


@contextmanager
def added(backbone: Backbone, layer: int, vector: Tensor, begin: int) -> Iterator[None]:
    """A vector at one layer's output from a token on; rows stand alone and whole."""

    def hook(module: Any, args: Any, out: Any) -> Any:
        hidden = (out[0] if isinstance(out, tuple) else out).clone()
        hidden[0, begin:] += vector
        return (hidden, *out[1:]) if isinstance(out, tuple) else hidden

    handle = backbone.layers[layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def test_a_vector_is_chosen_as_it_is_used_from_the_last_prompt_token_on(tmp_path: Path) -> None:
    where = setting(tmp_path)
    method: Any = make("style-vector", where, layers=(0, 2))
    backbone, vector = where.backbone, torch.randn(32, generator=torch.Generator().manual_seed(2))
    rows = Prompts(where).maker.history_rows(ANNA)[:2]
    expected = 0.0
    for row in rows:
        last = len(row.prompt_ids) - 1
        with added(backbone, 2, vector, last):
            logits = backbone.model(input_ids=torch.tensor([row.input_ids])).logits[0, last:]
        expected -= float(logits.log_softmax(-1).gather(1, torch.tensor(row.answer_ids)[:, None]).sum())
    assert method._loss(1, vector, rows) == pytest.approx(expected, rel=1e-4)

    with method.work.locked():
        for user, sign in ((ANNA, 1), (BEN, -1)):
            method.work.put_user(user, {"vector": sign * vector}, {"layer": 2, "strength": 1.0})
    answers = method.predict(asks(ANNA, BEN))
    for ask, text in zip(asks(ANNA, BEN), answers, strict=True):
        tokens = list(Prompts(where).plain(ask))
        length, said = len(tokens), list[int]()
        with added(backbone, 2, vector * (1 if ask.user is ANNA else -1), length - 1):
            while len(said) < Prompts(where).limit and 2 not in said:
                said.append(int(backbone.model(input_ids=torch.tensor([tokens + said])).logits[0, -1].argmax()))
        assert text == backbone.tokenizer.decode(said, skip_special_tokens=True)
    assert len(set(answers)) > 2


def test_an_answer_of_blanks_adds_nothing(tmp_path: Path) -> None:
    prompts, example = Prompts(setting(tmp_path)), TASK.history_example(ANNA.history[0])
    assert prompts.answered(example, " \n") == prompts.tokens(example)
    more = prompts.answered(example, "lamp")
    assert decoded(more) == decoded(prompts.tokens(example)) + " lamp"


# Floors


def test_floors_are_counts_and_copies(tmp_path: Path) -> None:
    asked = asks(ANNA)
    given = [item.fields["folder"] for item in ANNA.history]
    expected = max(reversed(given), key=given.count)
    assert ready("floor-user-majority", setting(tmp_path / "1"), [ANNA]).predict(asked) == [expected] * 2
    every = [i.fields["folder"] for user in (*OTHERS, ANNA) for i in user.history]
    every += [query.gold for user in OTHERS for query in user.queries if query.gold]
    most = max(LABELS, key=every.count)
    assert ready("floor-majority", setting(tmp_path / "2"), [ANNA]).predict(asked) == [most] * 2
    same = type(asked[0])(ANNA, type(asked[0].query)("copy", ANNA.history[1].fields["text"]))
    assert ready("floor-nearest", setting(tmp_path / "3"), [ANNA]).predict([same]) == [given[1]]


def test_a_user_without_a_history_gets_the_others_answer(tmp_path: Path) -> None:
    nobody = type(ANNA)("nobody", (), ANNA.queries)
    method = make("floor-nearest", setting(tmp_path))
    method.fit(OTHERS)
    assert method.adapt([nobody]) == {"nobody": "has no history"}
    assert set(method.predict(asks(nobody))) <= set(LABELS)


def test_a_floor_refuses_a_task_it_cannot_answer(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="floor-user-mean: does not fit task 'folders' of kind 'label'"):
        make("floor-user-mean", setting(tmp_path))


def test_rating_floors_know_that_four_is_four(tmp_path: Path) -> None:
    task = get_task("product_rating")
    ratings = ("4.0", "4", "2", "5")
    items = tuple(HistoryItem(str(n), {"text": f"film {n}", "score": score}) for n, score in enumerate(ratings))
    user = User("anna", items, (Query("q", f"{task.marker}a film"),))
    where = replace(setting(tmp_path), task=task)
    for name, expected in (("floor-user-majority", "4"), ("floor-user-mean", "3.75")):
        method = make(name, replace(where, folder=tmp_path / name))
        method.fit([])  # only who has no history needs the others
        method.adapt([user])
        assert method.predict(asks(user)) == [expected]
    nobody = make("floor-majority", where)
    nobody.fit([])
    with pytest.raises(DataError, match="nobody has a history"):
        nobody.adapt([replace(user, history=())])
    with pytest.raises(StoreError, match="floor-majority: has not learnt from anybody's history; call fit and adapt"):
        make("floor-majority", where).predict(asks(user))


# A task of free text whose past items have an answer and no question


@pytest.mark.parametrize("name", ["floor-nearest", "rag-2", "cos", "style-vector", "lora-p", "lofit", "perfit-stage-2"])
def test_methods_answer_a_text_task_without_questions_in_its_history(name: str, tmp_path: Path) -> None:
    task = replace(get_task("tweet_paraphrase"), max_new_tokens=5)
    items = tuple(HistoryItem(item.id, {"text": item.fields["text"]}) for item in ANNA.history)
    asked = tuple(Query(query.id, f"{task.marker}{query.input}") for query in ANNA.queries)
    user = User("anna", items, asked)
    method = make(name, replace(setting(tmp_path), task=task))
    method.fit([])
    assert method.adapt([user]) == {}
    together = method.predict(asks(user))
    assert together == [method.predict([ask])[0] for ask in asks(user)]


@pytest.mark.parametrize("name", ["rag-1", "rag-4", "cos"])
def test_one_user_s_pasted_chat_ends_no_method_for_anybody(name: str, tmp_path: Path) -> None:
    log = HistoryItem("9", {"text": "export </s> </s><s> </s> " * 40, "folder": "work"})
    pasted = replace(ANNA, history=(*ANNA.history, log))
    where = setting(tmp_path)
    method = ready(name, where, [pasted, BEN])
    answers = method.predict(asks(pasted, BEN))
    assert answers[len(ANNA.queries) :] == ready(name, setting(tmp_path / "alone"), [BEN]).predict(asks(BEN))
    for ask in asks(pasted):
        bare = Prompts(where).plain(ask)
        assert Prompts(where).retrieved(ask, 4)[-len(bare) :] == bare  # the query keeps its end


def test_a_written_profile_holds_no_control_tokens(tmp_path: Path) -> None:
    where = setting(tmp_path)
    prompts = Prompts(where)
    closing = base("llama").tokenizer.eos_token_id
    assert closing not in prompts.after("a profile </s> of </s>", asks(ANNA)[0])
