"""Texts come piece by piece, stop where they are told to, and are the library's own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from families import NumberTokenizer
from hypothesis import given
from hypothesis import strategies as st
from served_world import end_of, text_of, tokens_of, told
from small_base import CONFIG, TASK, dataset, write_base

from perfit.errors import ConfigError
from perfit.inference.decoding import Decoding
from perfit.personalizer import PerFit
from perfit.serving.answer import Answer, choose
from perfit.serving.engine import Event, Finished, Handle, Request
from perfit.stop_strings import until_stop


@pytest.fixture(scope="module")
def perfit(tmp_path_factory: pytest.TempPathFactory) -> PerFit:
    return PerFit.from_pretrained(write_base(tmp_path_factory.mktemp("answer") / "base"), CONFIG, task=TASK)


def said(perfit: PerFit, request: Request, tokens: list[int]) -> list[Event]:
    handle = Handle(request)
    answer = Answer(handle, perfit.backbone)
    for token in tokens:
        if answer.take(token, 0.0):
            break
    return told(handle)


def numbers() -> Any:
    """As much of a base as an answer needs."""
    return SimpleNamespace(
        tokenizer=NumberTokenizer(), model=SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=None))
    )


@given(st.text(st.sampled_from("ab é漢🙂"), min_size=1, max_size=12), st.lists(st.text("ab é", min_size=1, max_size=3)))
def test_pieces_are_the_text_up_to_the_stop(perfit: PerFit, text: str, stop: list[str]) -> None:
    tokens = perfit.backbone.tokenizer(text, add_special_tokens=False)["input_ids"]
    request = Request("a", (2,), stop=tuple(stop), max_new_tokens=len(tokens))
    events = said(perfit, request, tokens)
    assert text_of(events) == until_stop(text, stop)
    assert end_of(events).reason == ("stop" if any(one in text for one in stop) else "length")
    # What was told is never taken back, and nothing is told that may belong to a stop string.
    so_far = ""
    for event in events[:-1]:
        so_far += event.text
        assert until_stop(text, stop).startswith(so_far)


def test_an_end_token_ends_it_and_is_not_told(perfit: PerFit) -> None:
    tokenizer = perfit.backbone.tokenizer
    ids = tokenizer("river", add_special_tokens=False)["input_ids"]
    events = said(perfit, Request("a", (2,)), [*ids, tokenizer.eos_token_id, *ids])
    assert (text_of(events), end_of(events).reason, end_of(events).new_tokens) == ("river", "stop", len(ids))
    named = said(perfit, Request("a", (2,), stop=("<s>",)), [*ids, 0, *ids])
    assert (text_of(named), end_of(named).reason) == ("river", "stop")


def test_probabilities_are_those_before_temperature() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0, 2.0], [9.0, 0.0, 0.0, 0.0]])
    backbone = numbers()
    handles = [
        Handle(Request("a", (1,), n_logprobs=2)),
        Handle(Request("b", (1,), temperature=5.0, seed=3, n_logprobs=1)),
    ]
    choose(logits, [Answer(handle, backbone) for handle in handles])
    first, second = (tokens_of(told(handle))[0] for handle in handles)
    logprobs = logits.log_softmax(-1)
    assert first.id == 1
    assert first.logprob == pytest.approx(float(logprobs[0, 1]))
    assert [place for place, _ in first.top] == [1, 3]
    assert first.top[1][1] == pytest.approx(float(logprobs[0, 3]))
    assert second.logprob == pytest.approx(float(logprobs[1, second.id]))
    assert len(second.top) == 1


def test_sampling_draws_from_the_warmed_nucleus_and_is_a_requests_own() -> None:
    backbone = numbers()
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0]).log_softmax(-1)

    def drawn(seed: int, **how: float) -> int:
        answer = Answer(
            Handle(Request("a", (1, seed), temperature=how.get("temperature", 1.0), top_p=how.get("top_p", 1.0))),
            backbone,
        )
        return int(answer.score(logits).argmax())

    count = 4000
    found = torch.bincount(torch.tensor([drawn(seed, temperature=2.0) for seed in range(count)]), minlength=4) / count
    torch.testing.assert_close(found, (logits / 2).softmax(-1), atol=0.03, rtol=0)
    kept = torch.bincount(torch.tensor([drawn(seed, top_p=0.7) for seed in range(count)]), minlength=4) / count
    probabilities = logits.softmax(-1)[:2]  # 0.64 alone is not enough
    torch.testing.assert_close(kept[:2], probabilities / probabilities.sum(), atol=0.03, rtol=0)
    assert not kept[2:].any()
    assert drawn(5) == drawn(5)


def test_an_answer_that_is_not_finite_ends_alone() -> None:
    backbone = numbers()
    handles = [Handle(Request(name, (1,), max_new_tokens=1)) for name in "ab"]
    choose(torch.tensor([[0.0, torch.nan], [0.0, 1.0]]), [Answer(handle, backbone) for handle in handles])
    broken, fine = (told(handle) for handle in handles)
    assert end_of(broken).reason == "error"
    assert (tokens_of(fine)[0].id, end_of(fine).reason) == (1, "length")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"prompt": ()}, "prompt"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"n_logprobs": -1}, "n_logprobs"),
        ({"stop": ("",)}, "stop"),
    ],
)
def test_an_impossible_request_is_refused(wrong: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        Request(**{"id": "a", "prompt": (1,), **wrong})  # type: ignore[arg-type]


def test_a_listener_that_fails_is_left_alone() -> None:
    heard: list[Event] = []

    def listen(event: Event) -> None:
        heard.append(event)
        raise RuntimeError("gone")

    handle = Handle(Request("a", (1,)), listen)
    handle.put(Finished("length"))
    handle.put(Finished("length"))
    assert len(heard) == 1
    with pytest.raises(TimeoutError):
        handle.get(timeout=0.01)


def test_texts_are_those_of_the_library(perfit: PerFit) -> None:
    """The reference and ``PerFit.generate`` are two programs that say the same."""
    from served_world import Stepped

    from perfit.serving.reference import Reference

    query = dataset().users[0].queries[0]
    prompt = tuple(perfit.backbone.tokenizer(TASK.prompt.format(input=query.input))["input_ids"])
    for stop in ((), ("e",)):
        engine = Stepped(Reference(perfit.backbone, CONFIG.layers), perfit.backbone, None, "base")  # type: ignore[arg-type]
        handle = engine.submit(Request("a", prompt, max_new_tokens=12, stop=stop))
        engine.run()
        how = Decoding(max_new_tokens=12, stop=stop)
        assert text_of(told(handle)) == perfit.edited().texts([prompt], ["base"], how)[0]
