"""PAG: a profile of each user, written from the history by an instruction-tuned model, before every prompt (paper, D.3).

The writer is the base itself, or any other model by name. Wording, number of items and sampling are the OPPU protocol's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.backbone.room import positions_of
from perfit.data.schema import User
from perfit.how_to_open import HowToOpen
from perfit.inference.decoding import Decoding
from perfit.inference.edited import unedited
from perfit.methods.answer import answer, users_of
from perfit.methods.method import Ask, Cost, Done, Setting, no_progress
from perfit.methods.options import check_counts, check_numbers
from perfit.methods.profile_prompts import profile_prompt
from perfit.methods.prompts import Prompts
from perfit.methods.work import AdaptationError, Work
from perfit.opening import open_base
from perfit.pseudo_users import BASE
from perfit.tasks.encode import text_ids
from perfit.training.schedule import stable_random


@dataclass(frozen=True)
class Options:
    """Options of PAG.

    Attributes:
        writer: The model that writes profiles, as ``load_base`` takes it; None: the base.
        items: Past items it reads, drawn at random.
        words: Each item's fields are cut to so many words, and further where the prompt would not fit the writer.
        tokens: Most tokens of a profile.
        prompt_tokens: Most tokens of the writer's prompt.
        temperature, top_k, top_p: Its sampling.
    """

    writer: str | None = None
    items: int = 10
    words: int = 200
    tokens: int = 200
    prompt_tokens: int = 3072
    temperature: float = 0.6
    top_k: int = 10
    top_p: float = 0.9

    def __post_init__(self) -> None:
        check_counts(self, "items", "words", "tokens", "prompt_tokens", "top_k")
        check_numbers(self, "temperature", "top_p")


class Pag:
    """See the module."""

    def __init__(self, name: str, label: str, setting: Setting, options: Options):
        self.name, self.label, self.setting, self.options = name, label, setting, options
        self.work = Work(setting.folder, setting, name, options)
        self._user_bytes = 0

    def fit(self, others: Sequence[User]) -> None:
        """Nothing is learnt."""

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        """Write each user's profile."""
        writers: list[Backbone] = []  # loaded when the first profile is to be written

        def one(user: User) -> tuple[dict[str, Tensor], dict[str, Any]]:
            if not writers:
                writers.append(self._writer())
            return {}, {"profile": self._profile(writers[0], user)}

        problems = self.work.adapt_each(users, one)
        profiles = [self._profile_of(user) for user in users]
        self._user_bytes = round(fmean(len(profile.encode()) for profile in profiles)) if profiles else 0
        return problems

    def _writer(self) -> Backbone:
        if self.options.writer is None:
            return self.setting.backbone
        mine = self.setting.backbone
        how = HowToOpen(device=str(mine.device), dtype=str(mine.dtype).removeprefix("torch."))
        return open_base(self.options.writer, how).backbone

    def _profile(self, writer: Backbone, user: User) -> str:
        options = self.options
        decoding = Decoding(
            max_new_tokens=options.tokens,
            sample=True,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            seed=self.setting.seed,
        )
        prompt = self._tokens(writer, user)
        (text,) = unedited(writer).texts([prompt], [BASE], decoding)
        if not text.strip():
            raise AdaptationError("the writer wrote an empty profile")
        return text.strip()

    def _tokens(self, writer: Backbone, user: User) -> list[int]:
        """The writer's prompt; items lose words until it fits."""
        options, limit = self.options, positions_of(writer)
        room = options.prompt_tokens if limit is None else min(options.prompt_tokens, limit - options.tokens)
        chance = stable_random(self.setting.seed, user.id, "profile")
        items = chance.sample(user.history, min(options.items, len(user.history)))
        words = options.words
        while words:
            task = replace(self.setting.task, retrieval_words=words)
            documents = [task.retrieval_document(item).rstrip("\n") for item in items]
            tokens = _instruction(writer.tokenizer, profile_prompt(task, documents))
            if len(tokens) <= room:
                return tokens
            words = words * 3 // 4
        raise AdaptationError(f"a prompt with {len(items)} past items does not fit the {room} tokens of the writer")

    def _profile_of(self, user: User) -> str:
        return str(self.work.adapted(user).notes.get("profile", ""))

    def predict(self, asks: Sequence[Ask], done: Done = no_progress) -> list[str]:
        """The base's answers after each user's profile."""
        prompts = Prompts(self.setting)
        profiles = {user: self._profile_of(one) for user, one in users_of(asks).items()}
        tokens = [
            prompts.after(profile, ask) if (profile := profiles[ask.user.id]) else prompts.plain(ask) for ask in asks
        ]
        prompts.warn()
        return answer(self.setting.backbone, tokens, prompts, done)

    def cost(self) -> Cost:
        """The profiles."""
        return Cost(user_bytes=self._user_bytes)


def _instruction(tokenizer: Any, text: str) -> list[int]:
    """An instruction's tokens, in the tokenizer's chat template where it has one; past items in it stay text."""
    return text_ids(text, tokenizer, bool(getattr(tokenizer, "chat_template", None)))


make = Pag
