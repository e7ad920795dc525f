"""Training rows and prompts of one setting, with the user's own past items before them where a method wants that."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

from perfit.data.schema import User
from perfit.events import Warned
from perfit.inference.decoding import Decoding
from perfit.inference.label_set import labels_after
from perfit.methods.method import Ask, Setting
from perfit.tasks.encode import Encoded, encode, text_ids
from perfit.tasks.task import Example
from perfit.training.examples import RowMaker, answer_limit, without_answer
from perfit.training.rows import TokenRow
from perfit.words import count_words, first_words


class Prompts:
    """Turns users and asks into tokens.

    Args:
        setting: Task, tokenizer and lengths.
        before_each: Past items before every row and every prompt of ``asked``; the setting's config decides nothing here.
    """

    def __init__(self, setting: Setting, before_each: int = 0):
        self.setting = setting
        config = setting.config.with_options(retrieved=before_each)
        self.maker = RowMaker(setting.task, setting.backbone.tokenizer, config)

    @property
    def limit(self) -> int:
        """Tokens an answer may take."""
        return answer_limit(self.setting.task, self.setting.backbone.tokenizer, self.setting.config.chat_template)

    @cached_property
    def decoding(self) -> Decoding:
        """How the task's answers are decoded: free as the task says, greedily or drawn with the seed, or among its labels.

        Its ``within`` raises ConfigError where two labels have the same tokens.
        """
        setting = self.setting
        if setting.answers in ("free", "sampled"):
            drawn = Decoding(sample=setting.answers == "sampled", seed=setting.seed)
            return drawn.of(setting.task, self.limit)
        chat = setting.config.chat_template
        within = labels_after(setting.task.labels, setting.backbone.tokenizer, chat)
        return Decoding(max_new_tokens=self.limit, within=within)

    def plain(self, ask: Ask) -> tuple[int, ...]:
        """A query's prompt alone."""
        return self.tokens(self.setting.task.query_example(without_answer(ask.query)))

    def asked(self, ask: Ask) -> tuple[int, ...]:
        """A query's prompt as the rows are: behind ``before_each`` past items."""
        return self.maker.prompt(ask.query, ask.user).prompt_ids

    def after(self, text: str, ask: Ask) -> tuple[int, ...]:
        """A query's prompt after a text and a line break; what does not fit goes from the end of that text."""
        example = self.setting.task.query_example(without_answer(ask.query))
        room = self.setting.config.max_length - self.maker.answer_room
        words = every = count_words(text)
        tokenizer, chat = self.setting.backbone.tokenizer, self.setting.config.chat_template
        while words:
            longer = replace(example, head=f"{first_words(text, words)}\n{example.head}")
            if len(text_ids(longer.prompt, tokenizer, chat)) <= room:
                return self.tokens(longer)
            self.maker.counts["prompts with a shortened text before them"] += words == every
            words = words * 3 // 4
        return self.tokens(example)

    def retrieved(self, ask: Ask, k: int) -> tuple[int, ...]:
        """A query's prompt after the ``k`` past items of the whole history nearest to it."""
        return self.tokens(self.maker.with_history(ask.user, ask.query, k))

    def after_history(self, ask: Ask, max_length: int | None = None) -> tuple[int, ...]:
        """A query's prompt after as much of the whole history as fits, the newest kept, in order of time.

        Args:
            ask: Who asks what.
            max_length: Most tokens of prompt and answer; the setting's when not given.
        """
        longest = max_length if max_length is not None else self.setting.config.max_length
        newest_first = ask.user.history[::-1]
        example = self.maker.behind(ask.query, newest_first, max_length=longest, best_last=True)
        return self._encode(example, with_answer=False, max_length=longest).prompt_ids

    def retrieved_rows(self, user: User, k: int) -> list[TokenRow]:
        """Training rows of a history, each after the nearest of the items before it, never itself or a later one."""
        return [
            self.row(self.maker.with_history(user, item, k, before=place)) for place, item in enumerate(user.history)
        ]

    def row(self, example: Example) -> TokenRow:
        """An example with its answer, for training."""
        encoded = self._encode(example, with_answer=True)
        return TokenRow(encoded.prompt_ids, encoded.answer_ids)

    def tokens(self, example: Example) -> tuple[int, ...]:
        """An example's prompt."""
        return self._encode(example, with_answer=False).prompt_ids

    def answered(self, example: Example, answer: str) -> tuple[int, ...]:
        """An example's prompt and another answer, not closed; an answer of blanks alone adds nothing."""
        if not answer.strip():
            return self.tokens(example)
        row = self.row(replace(example, answer=answer.strip()))
        return (*row.prompt_ids, *row.answer_ids[:-1])

    def warn(self) -> None:
        """Say what had to be shortened since the last time."""
        for line in self.maker.warnings():
            self.setting.listener(Warned(line))
        self.maker.counts.clear()

    def _encode(self, example: Example, *, with_answer: bool, max_length: int | None = None) -> Encoded:
        config = self.setting.config
        encoded = encode(
            example,
            self.setting.backbone.tokenizer,
            max_length=max_length if max_length is not None else config.max_length,
            chat_template=config.chat_template,
            with_answer=with_answer,
            answer_room=self.maker.answer_room,
        )
        self.maker.counts["shortened prompts"] += encoded.truncated
        return encoded
