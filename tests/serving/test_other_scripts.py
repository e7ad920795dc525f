"""Chats in scripts without blanks, whose characters are several tokens each: places, pieces, stops, bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from served_run import Site
from torch import Tensor

from perfit.serving.answer import Answer
from perfit.tasks.plain_text import chat_ids, plain_ids

CHINESE, THAI = "今天天气很好。我们去公园。", "สวัสดีครับไปไหนมา"


@pytest.fixture
def saying(shared_site: Site, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``saying(text)``: the base says this from now on, whatever it is asked."""

    def says(text: str) -> None:
        tokens = [*plain_ids(text, shared_site.perfit.backbone.tokenizer), 1]
        assert len(tokens) > 2 * len(text)  # the characters are torn

        def score(self: Answer, logits: Tensor) -> Tensor:
            wanted = torch.zeros_like(logits)
            wanted[tokens[len(self.tokens)]] = 1
            return wanted

        monkeypatch.setattr(Answer, "plain", property(lambda self: False))
        monkeypatch.setattr(Answer, "score", score)

    return says


def ask(site: Site, asked: str, **more: Any) -> dict[str, Any]:
    body = {"user": "anna", "messages": [{"role": "user", "content": asked}], "max_tokens": 200}
    found: dict[str, Any] = site.post("/v1/chat/completions", body | more).json()
    return found


def pieces(site: Site, asked: str, **more: Any) -> list[str]:
    body = {"user": "anna", "messages": [{"role": "user", "content": asked}], "max_tokens": 200, "stream": True}
    lines = site.post("/v1/chat/completions", body | more).text.split("\n\n")
    parts = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    return [part["choices"][0]["delta"].get("content", "") for part in parts]


@pytest.mark.parametrize("text", [CHINESE, THAI])
def test_the_last_tokens_are_edited_and_no_character_comes_in_halves(shared_site: Site, saying: Any, text: str) -> None:
    prompt = chat_ids(text, shared_site.perfit.backbone.tokenizer)
    saying(text)
    whole = ask(shared_site, text)
    assert whole["choices"][0]["message"]["content"] == text
    assert whole["choices"][0]["finish_reason"] == "stop"
    assert whole["perfit"]["edited"] == [[len(prompt) - 3, len(prompt)]]
    assert whole["usage"]["prompt_tokens"] == len(prompt)
    said = pieces(shared_site, text)
    assert "".join(said) == text
    assert not any("\ufffd" in piece for piece in said)
    assert len(list(filter(None, said))) > len(text) / 2  # as it comes, not at the end


@pytest.mark.parametrize(
    ("text", "stop", "left"),
    [
        (CHINESE, "。", "今天天气很好"),
        (CHINESE, "好。我", "今天天气很"),
        (CHINESE, "公", "今天天气很好。我们去"),
        (THAI, "ครับ", "สวัสดี"),
    ],
)
def test_a_stop_ends_the_answer_and_none_of_it_is_shown(
    shared_site: Site, saying: Any, text: str, stop: str, left: str
) -> None:
    saying(text)
    choice = ask(shared_site, "好", stop=stop)["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (left, "stop")
    assert "".join(pieces(shared_site, "好", stop=[stop])) == left


def test_tokens_that_are_parts_of_characters_are_told_apart_by_their_bytes(shared_site: Site, saying: Any) -> None:
    saying(CHINESE)
    told = ask(shared_site, "好", logprobs=True, top_logprobs=20)["choices"][0]["logprobs"]["content"]
    assert bytes(byte for token in told for byte in token["bytes"]).decode() == CHINESE
    for token in told:
        assert len({one["token"] for one in token["top_logprobs"]}) == 20
    body = {"user": "anna", "prompt": "好", "logprobs": 20, "max_tokens": 3}
    tops = shared_site.post("/v1/completions", body).json()["choices"][0]["logprobs"]["top_logprobs"]
    assert [len(top) for top in tops] == [20, 20, 20]
    assert any(name.startswith("bytes:\\x") for top in tops for name in top)


def test_a_system_message_stands_first_or_is_refused_wherever_messages_are_read(shared_site: Site) -> None:
    user = {"role": "user", "content": "好"}
    for role in ("system", "developer"):
        one = {"role": role, "content": "be brief"}
        first = {"user": "anna", "messages": [one, user], "max_tokens": 1}
        assert shared_site.post("/v1/chat/completions", first).status_code == 200
        for messages in ([user, one, user], [one, one, user]):
            for path, body in (
                ("/v1/chat/completions", {"user": "anna"}),
                ("/v1/answers/score", {"user": "anna", "answer": "a"}),
                ("/v1/users/dora/feedback", {"verdict": "accepted", "answer": "work"}),
            ):
                refused = shared_site.post(path, body | {"messages": messages})
                assert refused.status_code == 400
                assert refused.json()["error"]["param"] == "messages[1].role"
                assert "put it first" in refused.json()["error"]["message"]


def test_tools_are_refused_by_name(shared_site: Site) -> None:
    user = {"role": "user", "content": "what"}
    tool = {"type": "function", "function": {"name": "clock", "parameters": {}}}
    call = {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "type": "function"}]}
    for more, param in (
        ({"tools": [tool], "messages": [user]}, "tools"),
        ({"messages": [user, {"role": "tool", "content": "noon", "tool_call_id": "1"}, user]}, "messages[1].role"),
        ({"messages": [user, call, user]}, "messages[1].tool_calls"),
    ):
        refused = shared_site.post("/v1/chat/completions", {"user": "anna"} | more)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
