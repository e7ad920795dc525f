"""Every sentence of docs/semantics.md, on the library and on both engines, held to a model of loops over single tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import families
import pytest
import torch
from served_world import LAYERS, SMALL, World, answered, batched, end_of, prompt, reference, tokens_of
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from perfit.edits.edit_plan import TwoStageShift
from perfit.edits.positions import Positions
from perfit.edits.shift import from_stored
from perfit.inference.decoding import Decoding
from perfit.inference.generate import generate
from perfit.serving.engine import Event, Request
from perfit.serving.version import ShiftVersion
from perfit.training.stages import bank_of

PAGE = Path(__file__).parents[2] / "docs" / "semantics.md"
EXAMPLE = re.compile(r"^(\S+) {2,}(\S.*)$", re.MULTILINE)
EXAMPLES = [
    (rule, line.split())
    for block in re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for rule, line in EXAMPLE.findall(block)
]
LLAMA = families.tiny("llama")
TEMPLATE = (
    "<s>{% for m in messages %}"
    "{% if m.role == 'assistant' %} <assistant> {{ m.content }}{% if not loop.last or add_generation_prompt %} </s>{% endif %}"
    "{% else %} <{{ m.role }}> {{ m.content }} </{{ m.role }}>{% endif %}"
    "{% if loop.first and tools %} <tools>{% for t in tools %} {{ t.function.name }}{% endfor %} </tools>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %} <assistant>{% endif %}"
)


def chat(*turns: tuple[str, str], tools: list[Any] | None = None, goes_on: bool = False) -> list[str]:
    """The tokens of a conversation, words and marks, as its template gives them."""
    words = {word.strip("[]"): n for n, word in enumerate(dict.fromkeys(w for _, line in EXAMPLES for w in line))}
    made = Tokenizer(models.WordLevel(dict(zip(words, range(len(words)), strict=True)), unk_token="<s>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, chat_template=TEMPLATE)
    ids = tokenizer.apply_chat_template(
        [{"role": role, "content": text} for role, text in turns],
        tools=tools,
        add_generation_prompt=not goes_on,
        continue_final_message=goes_on,
        return_dict=False,
    )
    tokens: list[str] = tokenizer.convert_ids_to_tokens(ids)
    return tokens


CLOCK = {"type": "function", "function": {"name": "clock", "description": "", "parameters": {}}}
CHATS = [
    chat(("user", "hello there")),
    chat(("user", "hello there"), ("assistant", "good day"), ("user", "and now")),
    chat(("system", "be brief"), ("user", "what"), tools=[CLOCK]),
    chat(("user", "what"), ("assistant", "clock"), ("tool", "noon")),
    chat(("user", "hello"), ("assistant", "good day"), goes_on=True),
]


@pytest.mark.parametrize(("rule", "line"), EXAMPLES)
def test_an_example_of_the_page_is_what_the_rule_picks(rule: str, line: list[str]) -> None:
    marked = tuple(place for place, word in enumerate(line) if word.startswith("["))
    assert Positions.parse(rule).of(len(line)) == marked
    tokens = [word.strip("[]") for word in line]
    assert tokens in CHATS or len(tokens) < 4, "no template gives these tokens"


def test_the_page_has_an_example_of_every_conversation() -> None:
    shown = [[word.strip("[]") for word in line] for _, line in EXAMPLES]
    assert all(tokens in shown for tokens in CHATS)


Said = tuple[list[int], list[float]]  # tokens, and their log-probabilities


def by_hand(world: World, who: ShiftVersion | None, asked: tuple[int, ...], where: list[int], new: int) -> Said:
    """The answer, the whole sequence run again for each token and edited vector by vector at ``where``."""
    tokens, logprobs = list(asked), []
    for _ in range(new):
        with torch.no_grad():
            logits = families.alone(LLAMA, tokens, shift_of(world, who), (1, 1) if who else (0, 0), where)[-1]
        tokens.append(int(logits.argmax()))
        logprobs.append(float(logits.log_softmax(-1).max()))
    return tokens[len(asked) :], logprobs


def is_said(found: Sequence[Event], expected: Said) -> bool:
    tokens = tokens_of(found)
    close = [abs(token.logprob - wanted) < 2e-4 for token, wanted in zip(tokens, expected[1], strict=True)]
    return [token.id for token in tokens] == expected[0] and all(close)


def shift_of(world: World, who: ShiftVersion | None) -> TwoStageShift:
    first, second = next(iter(world.collectives.values())).shifts
    if who is not None and who.personal is not None:
        second = from_stored(world.personal(who).tensors)
    return TwoStageShift(LAYERS, bank_of([first], "cpu"), bank_of([second], "cpu"))


CASES: list[tuple[str, int, list[int]]] = [
    ("l3", 20, [17, 18, 19]),
    ("f2", 20, [0, 1]),
    ("f2+l3", 20, [0, 1, 17, 18, 19]),
    ("f2+l2", 3, [0, 1, 2]),  # each once
    ("f7+l7", 2, [0, 1]),
    ("0,5,-1", 3, [0, 2]),
    ("all", 9, list(range(9))),
]


@pytest.mark.parametrize(("rule", "length", "where"), CASES)
@pytest.mark.parametrize("kind", ["user", "collective", "base"])
def test_library_and_engines_edit_these_tokens_and_no_generated_one(
    rule: str, length: int, where: list[int], kind: str
) -> None:
    world = World()
    who = {"user": world.train("anna", positions=rule), "collective": world.shared(positions=rule), "base": None}[kind]
    asked = prompt(length, length)
    expected = by_hand(world, who, asked, where, 5)
    if who is not None:
        untouched = by_hand(world, None, asked, [], 5)
        assert max(abs(a - b) for a, b in zip(expected[1], untouched[1], strict=True)) > 1e-2, "edits that do nothing"
    for engine in (reference(world, LLAMA), batched(world, LLAMA, SMALL)):
        (found,) = answered(engine, [Request("a", asked, who, max_new_tokens=5)])
        assert is_said(found, expected)
        assert end_of(found).edited == (tuple(where) if who else ())
    slots = [(1, 1) if who else (0, 0)]
    how = Decoding(max_new_tokens=5)
    library = generate(LLAMA, [asked], slots, shift_of(world, who), Positions.parse(rule), how)
    assert library == [" ".join(map(str, expected[0]))]


@pytest.mark.parametrize("rule", ["l3", "f2+l3"])
def test_a_next_turn_counts_anew_and_keeps_no_edit_of_the_last(rule: str) -> None:
    world = World()
    who, head = world.train("anna", positions=rule), [0, 1] if rule.startswith("f") else []
    engines = [reference(world, LLAMA), batched(world, LLAMA, SMALL)]
    asked = prompt(1, 14)
    for turn in range(3):
        length = len(asked)
        expected = by_hand(world, who, asked, [*head, length - 3, length - 2, length - 1], 4)
        for engine in engines:
            (found,) = answered(engine, [Request(f"{turn}", asked, who, max_new_tokens=4)])
            assert is_said(found, expected)
        asked = (*asked, *expected[0], *prompt(turn + 5, 5))


def test_an_answer_goes_on_as_in_one_go_where_only_the_beginning_is_edited() -> None:
    world, asked = World(), prompt(0, 12)
    for rule, as_in_one in (("f2", True), ("l3", False)):
        who = world.train("anna", positions=rule)
        for engine in (reference(world, LLAMA), batched(world, LLAMA, SMALL)):
            (whole,) = answered(engine, [Request("whole", asked, who, max_new_tokens=8)])
            said = tokens_of(whole)
            begun = (*asked, *(token.id for token in said[:3]))
            (rest,) = answered(engine, [Request("rest", begun, who, max_new_tokens=5)])
            went_on = [token.id for token in said[3:]], [token.logprob for token in said[3:]]
            assert is_said(rest, went_on) is as_in_one
            assert end_of(rest).edited == ((0, 1) if rule == "f2" else (12, 13, 14))
