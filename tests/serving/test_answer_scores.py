"""``POST /v1/answers/score``: the numbers of the library, token by token, for whom the request names and nobody else."""

from __future__ import annotations

import pytest
import torch
from served_run import NAMES, PROMPT, Site

from perfit.data.schema import Query
from perfit.edits.positions import Positions
from perfit.serving.receipts import read_receipt
from perfit.tasks.plain_text import chat_ids, plain_ids

OWNERS = (*NAMES, "collective", "base")


def score(site: Site, **body: object) -> dict:  # type: ignore[type-arg]
    answer = site.post("/v1/answers/score", body)
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


def plain(site: Site, prompt: list[int], answer: list[int], user: str) -> list[float]:
    """One whole forward with hooks and nothing clever."""
    perfit = site.perfit
    ids = torch.tensor([prompt + answer])
    hooks = []
    if user != "base":
        first, second = perfit.collective  # type: ignore[misc]
        second = second if user == "collective" else perfit.shift_of(user)
        places = list(Positions.parse(perfit.config.positions).of(len(prompt)))
        for number, layer in enumerate(perfit.config.layers):

            def hook(module, inputs, output, number=number):  # type: ignore[no-untyped-def]
                states = (output[0] if isinstance(output, tuple) else output).clone()
                for shift in (first, second):
                    here = states[0, places]
                    states[0, places] = here + (here @ shift.D[number].T + shift.b[number]) @ shift.R[number]
                return (states, *output[1:]) if isinstance(output, tuple) else states

            hooks.append(perfit.backbone.layers[layer].register_forward_hook(hook))
    try:
        with torch.no_grad():
            logits = perfit.backbone.model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
    finally:
        for one in hooks:
            one.remove()
    return [float(logits[len(prompt) - 1 + n, token]) for n, token in enumerate(answer)]


@pytest.mark.parametrize("answer", ["river stone", "河边的石头"])
def test_each_token_is_scored_as_one_plain_forward_scores_it(shared_site: Site, answer: str) -> None:
    tokenizer = shared_site.perfit.backbone.tokenizer
    ids = plain_ids(answer, tokenizer)
    ways = [({"prompt": PROMPT}, plain_ids(PROMPT, tokenizer, front=True), ids)]
    turn = [{"role": "user", "content": "a lamp"}]
    ways.append(({"messages": turn}, chat_ids("a lamp", tokenizer), [*ids, 1]))
    for fields, prompt, tokens in ways:
        seen = set()
        for user in OWNERS:
            found = score(shared_site, user=user, answer=answer, **fields)
            wanted = plain(shared_site, prompt, tokens, user)
            assert found["logprob"] == pytest.approx(sum(wanted), abs=1e-3)
            assert "".join(one["text"] for one in found["tokens"]).removesuffix("</s>") == answer
            place = 0
            for one in found["tokens"]:
                assert one["logprob"] == pytest.approx(sum(wanted[place : place + one["tokens"]]), abs=1e-3)
                place += one["tokens"]
            assert place == len(tokens)
            seen.add(round(found["logprob"], 3))
        assert len(seen) == len(OWNERS)


def test_a_tasks_answer_is_scored_as_the_library_scores_it(shared_site: Site) -> None:
    for user in OWNERS:
        found = score(shared_site, user=user, input="river stone", answer="family")
        query = Query("q", "river stone", "family")
        (wanted,) = shared_site.perfit.score_answers([query], [user])
        assert found["logprob"] == pytest.approx(wanted.log_prob, abs=1e-3)
        assert sum(one["tokens"] for one in found["tokens"]) == wanted.tokens
        assert found["tokens"][-1]["text"] == "</s>"


def test_it_says_what_it_was_given_with_and_switches_off(shared_site: Site) -> None:
    asked = {"input": "river stone", "answer": "family"}
    found = score(shared_site, user="anna", **asked)
    said = read_receipt(found["perfit"]["receipt"], shared_site.gateway.notebook.key)
    assert (said["engine"], said["version"]) == ("tokens", 1)
    off = score(shared_site, user="anna", personalize=False, **asked)
    assert off["logprob"] == score(shared_site, user="collective", **asked)["logprob"] != found["logprob"]
    assert not shared_site.gateway.people._held
    assert shared_site.gateway.limits.flying() == 0


@pytest.mark.parametrize(
    ("body", "param", "status"),
    [
        ({"input": "a"}, "answer", 400),
        ({"answer": "a"}, "input", 400),
        ({"input": "a", "prompt": "b", "answer": "a"}, "input", 400),
        ({"prompt": "a", "answer": ""}, "answer", 400),
        ({"input": "a", "answer": " "}, "answer", 400),
        ({"prompt": "", "answer": "a", "user": "base"}, "prompt", 400),
        ({"prompt": "a", "answer": "river " * 2000}, "answer", 400),
        ({"prompt": "a", "answer": "a", "max_tokens": 1}, "max_tokens", 400),
        ({"prompt": "a", "answer": "a", "user": "nobody"}, "user", 404),
        ({"prompt": "a", "answer": "a", "user": None}, "user", 400),
    ],
)
def test_what_cannot_be_scored_says_which_field(
    shared_site: Site, body: dict[str, object], param: str | None, status: int
) -> None:
    refused = shared_site.post("/v1/answers/score", {"user": "anna"} | body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (status, param), refused.text
    assert shared_site.gateway.limits.flying() == 0


def test_a_prompt_is_shown_as_the_base_reads_it_to_whoever_asks_for_it(shared_site: Site) -> None:
    tokenizer = shared_site.perfit.backbone.tokenizer
    turn = [{"role": "user", "content": "石 stone"}]
    for path, body in (
        ("/v1/completions", {"prompt": "石 stone", "max_tokens": 1}),
        ("/v1/chat/completions", {"messages": turn, "max_tokens": 1}),
        ("/v1/tasks/answer", {"input": "石 stone"}),
    ):
        asked = body | {"user": "anna"}
        assert "prompt" not in shared_site.post(path, asked).json()["perfit"]
        said = shared_site.post(path, asked | {"show_prompt": True}).json()["perfit"]
        assert sum(piece["tokens"] for piece in said["prompt"]) == said["prompt_tokens"]
        text = "".join(piece["text"] for piece in said["prompt"])
        assert "石 stone" in text
        assert text.startswith("<s>") == (path == "/v1/chat/completions")
        assert len(tokenizer.encode(text, add_special_tokens=False)) == said["prompt_tokens"]
    stream = shared_site.post(
        "/v1/completions", {"user": "anna", "prompt": "石", "max_tokens": 2, "stream": True, "show_prompt": True}
    )
    assert stream.text.count('"prompt":[') == 1


def test_labels_are_not_streamed(shared_site: Site) -> None:
    refused = shared_site.post("/v1/tasks/answer", {"user": "anna", "input": "a", "stream": True})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "stream")
