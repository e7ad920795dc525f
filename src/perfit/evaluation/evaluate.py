"""Base, collective, personal and the floors on the same queries: predict, score, compare, write down."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from perfit.data.saying import shown_name
from perfit.data.schema import Dataset, User
from perfit.durable.files import write_atomically
from perfit.durable.identity import digest_of
from perfit.durable.records import write_records
from perfit.errors import ConfigError
from perfit.evaluation.aggregate import compare
from perfit.evaluation.effect import Effect, effect_between
from perfit.evaluation.evaluation import FLOOR, MEMORY, PERSONAL, Evaluation
from perfit.evaluation.judged import Judged, judged
from perfit.evaluation.lamp_format import write_lamp
from perfit.evaluation.nll import Nll, nll_of_labels, nll_of_tokens
from perfit.evaluation.own_metrics import Metric, own_values
from perfit.evaluation.seen import by_seen, seen_by_others
from perfit.evaluation.written import predictions_path, write_metrics
from perfit.evaluations import evaluations, remember
from perfit.events import Listener, nobody
from perfit.inference.decoding import Decoding
from perfit.json_keys import json_key
from perfit.methods.floor_rules import floors
from perfit.methods.memory import Memory
from perfit.model_card import write_card
from perfit.personalizer import PerFit
from perfit.private import private_folder
from perfit.pseudo_users import BASE, COLLECTIVE
from perfit.run import RunDirectory
from perfit.shown import shown
from perfit.tasks.label_scores import answers_from
from perfit.tasks.task import Task
from perfit.tombstones import Tombstones

ANSWERS = ("free", "trie", "expected")
METHODS = (BASE, COLLECTIVE, PERSONAL)
_ERASED = "users who were erased from the run"
_NO_HISTORY = "personal floors of users without a history"


def evaluate(
    perfit: PerFit,
    users: Sequence[User],
    *,
    others: Sequence[User] = (),
    methods: Sequence[str] = METHODS,
    decoding: Decoding | None = None,
    answers: str = "free",
    with_floors: bool = True,
    with_nll: bool = True,
    with_memory: bool = False,
    metrics: Sequence[Metric] = (),
    run: RunDirectory | None = None,
    done: Callable[[str, int], None] = lambda method, rows: None,
    listener: Listener = nobody,
) -> Evaluation:
    """Answer all users' queries with each method and score them; rows of many users run in one batch.

    Users without a personal shift and queries without a known answer are left out for every method alike, and counted.
    So are the personal floors of users without a history, who get the floor of all users; when nobody has a history,
    there are no floors. Floors (``methods.floor_rules``) learn from the histories of all who are evaluated and from the
    others.

    Args:
        perfit: A trained run.
        users: Users with queries and, for the floors, histories.
        others: The users of stage 1, whose histories and answered queries the floors may use.
        methods: Of "base", "collective", "personal".
        decoding: Greedy within the task's limit when not given; how long answers are, what ends them and repetition
            control are always the task's.
        answers: "free" generation, or for tasks with labels "trie": the most probable label, scored exactly; for
            ratings "expected": median and mean of the ratings' exact probabilities.
        with_floors: Also score what any personal model must beat.
        with_nll: Also say how probable each method finds the known answers, which takes a pass of its own where answers
            are free.
        with_memory: For tasks with labels, also the personal label scores mixed with a memory of everybody's history
            (``methods.memory``).
        metrics: Of one's own, beside the task's (``evaluation.own_metrics``).
        run: Where to write predictions and scores.
        done: Called with the methods' names and the number of answers, which all methods' together count; before that
            with "NLL" and as many.
        listener: Hears a warning when prompts had to be shortened (once: the methods' prompts are the same).

    Raises:
        ConfigError: An unknown method or kind of answers, labels asked of a task that has none, nothing to evaluate, or a
            label that is longer than the task's ``max_new_tokens``.
        DataError: A gold answer is none of the task's.
        StoreError: Another process trains or evaluates in ``run``.
    """
    check_methods(methods)
    check_answers(answers, perfit.task, decoding)
    if with_memory and not perfit.task.labels:
        raise ConfigError(f"memory: task {perfit.task.name!r} has no labels to mix; leave it out")
    if with_memory and PERSONAL not in methods:
        raise ConfigError("memory: stands beside the personal shift; ask for the method 'personal' too")
    with run.locked() if run is not None else nullcontext():
        return _evaluate(
            perfit,
            users,
            others,
            methods,
            decoding,
            answers,
            with_floors,
            with_nll,
            with_memory,
            metrics,
            run,
            done,
            listener,
        )


def _evaluate(
    perfit: PerFit,
    users: Sequence[User],
    others: Sequence[User],
    methods: Sequence[str],
    decoding: Decoding | None,
    answers: str,
    with_floors: bool,
    with_nll: bool,
    with_memory: bool,
    metrics: Sequence[Metric],
    run: RunDirectory | None,
    done: Callable[[str, int], None],
    listener: Listener,
) -> Evaluation:
    if run is not None:
        evaluations(run)  # a damaged list is said before the answers have taken their time
    living = users if run is None else Tombstones(run.path).living(users)
    chosen, left_out = _evaluable(perfit, living, methods)
    if len(living) < len(users):
        left_out[_ERASED] = len(users) - len(living)
    golds = {
        query.id: perfit.task.check_gold(query.gold or "", f"query {query.id}")
        for user in chosen
        for query in user.queries
    }
    if not golds:
        raise ConfigError(_nothing(perfit, users, left_out))
    results: dict[str, Judged] = {}
    limit = (decoding or Decoding()).of(perfit.task, perfit.answer_limit())
    files: dict[str, str] = {}

    def add(name: str, predictions: Mapping[str, str], seconds: float) -> None:
        own = own_values(metrics, predictions, golds)
        results[name] = judged(perfit.task, predictions, golds, chosen, seconds=seconds, own=own)
        if run is not None:
            files[json_key(name)] = _write_predictions(run, name, perfit.task, chosen, predictions)

    if with_floors and (bare := sum(1 for user in chosen if not user.history)):
        left_out[_NO_HISTORY] = bare
    pool = others if run is None else Tombstones(run.path).living(others)
    if with_floors and any(user.history for user in (*chosen, *pool)):
        for name, found in floors(perfit.task, Dataset(tuple(chosen), tuple(pool)), chosen).items():
            add(f"{FLOOR}{name.replace('-', '_')}", found.predictions, found.seconds)
    asked = [(user.id, query) for user in chosen for query in user.queries]
    # All methods in one go: they ask the same prompts, and equal prompts share what comes before the edits.
    queries = [query for _, query in asked] * len(methods)
    owners = [_owner(method)(user) for method in methods for user, _ in asked]
    askers = [user for user in chosen for _ in user.queries] * len(methods)

    def report(rows: int) -> None:
        done(", ".join(methods), rows)

    pair = (PERSONAL, COLLECTIVE)
    nll = None
    if with_nll and answers == "free":  # first: what it refuses, it refuses before the answers have taken their time
        of = {method: _owner(method) for method in methods}
        nll = nll_of_tokens(perfit, chosen, of, compared=pair, done=lambda rows: done("NLL", rows))
    began = time.perf_counter()
    scores: dict[str, Tensor] = {}
    if answers == "free":
        texts = perfit.generate(queries, owners, askers=askers, decoding=limit, done=report, listener=listener)
    else:
        best_only = answers == "trie" and not with_nll and not with_memory
        labelled = perfit.score_labels(
            queries, owners, askers=askers, best_only=best_only, done=report, listener=listener
        )
        texts = answers_from(labelled, perfit.task, answers)
        scores = dict(zip(methods, torch.split(labelled, len(asked)), strict=True))
    seconds = (time.perf_counter() - began) / len(methods)
    for number, method in enumerate(methods):
        own = slice(number * len(asked), (number + 1) * len(asked))
        add(method, {q.id: text.strip() for q, text in zip(queries[own], texts[own], strict=True)}, seconds)
    if with_memory:
        began = time.perf_counter() - (seconds if PERSONAL in scores else 0.0)
        memory = Memory.fit(Dataset(tuple(chosen), tuple(pool)), perfit.task)
        personal = scores.get(PERSONAL)
        if personal is None:
            once = len(asked)
            whose = [user for user, _ in asked]
            personal = perfit.score_labels(queries[:once], whose, askers=askers[:once], listener=listener)
        mixed = memory.mixed(personal, asked)
        texts = answers_from(mixed, perfit.task, answers)
        add(MEMORY, {q.id: text for (_, q), text in zip(asked, texts, strict=True)}, time.perf_counter() - began)
        scores |= {MEMORY: mixed}
    if with_nll and answers != "free":
        nll = nll_of_labels(perfit.task, chosen, scores, compared=pair)
    helped = None
    effects: dict[str, Effect] = {}
    if COLLECTIVE in results and PERSONAL in results:
        one, other = results[PERSONAL].scores, results[COLLECTIVE].scores
        helped = compare(one.per_query, other.per_query, chosen, higher_is_better=one.higher_is_better)
        effects = {name: _effect(perfit, chosen, results, nll, name) for name in (PERSONAL, MEMORY) if name in results}
    apart = None
    if any(name.startswith(FLOOR) for name in results):  # they, too, read what everybody has answered
        values = {name: result.scores.per_query for name, result in results.items()}
        known_to_others = seen_by_others(perfit.task, Dataset(tuple(chosen), tuple(pool)), chosen)
        apart = by_seen(perfit.task.primary_metric, values, known_to_others)
    evaluation = Evaluation(perfit.task, results, helped, left_out, answers, effects, nll, apart)
    if run is not None:
        write_metrics(run, evaluation.as_dict(), files)
        write_atomically(run.path / "metrics.md", evaluation.markdown().encode())
        asked_for = {
            "methods": list(methods),
            "answers": answers,
            "sample": limit.sample,
            "seed": limit.seed,
            "floors": with_floors,
            "memory": with_memory,
            **({"metrics": [metric.name for metric in metrics]} if metrics else {}),
            "queries": digest_of([[user, query.id, golds[query.id]] for user, query in asked]),
        }
        remember(run, asked_for, evaluation.pooled())
        if run.exists():
            write_card(run, evaluation.markdown())
    return evaluation


def _effect(perfit: PerFit, users: Sequence[User], results: Mapping[str, Judged], nll: Nll | None, name: str) -> Effect:
    of_users = {} if nll is None else nll.users
    known = name in of_users
    return effect_between(
        [results[name]],
        [results[COLLECTIVE]],
        users,
        against=COLLECTIVE,
        history={user.id: len(user.history) for user in users},
        nll=of_users[name] if known else None,
        nll_reference=of_users[COLLECTIVE] if known else None,
        strengths={user.id: perfit.strength_of(user.id) for user in users},
    )


def _owner(method: str) -> Callable[[str], str]:
    return lambda user: user if method == PERSONAL else method


def check_methods(methods: Sequence[str]) -> None:
    """Refuse methods that do not exist, or none at all.

    Raises:
        ConfigError: As said.
    """
    unknown = [name for name in methods if name not in METHODS]
    if unknown or not methods:
        raise ConfigError(f"methods: {unknown or list(methods)} is not possible; choose from {', '.join(METHODS)}")


def check_answers(answers: str, task: Task, decoding: Decoding | None = None) -> None:
    """Refuse a way of answering that does not exist or does not fit the task.

    Raises:
        ConfigError: As said.
    """
    if answers not in ANSWERS:
        raise ConfigError(f"labels: {answers!r} is not possible; choose from {', '.join(ANSWERS)}")
    if answers == "trie" and not task.labels:
        raise ConfigError(f"labels: task {task.name!r} has none, its answers are free text; leave it at 'free'")
    if answers == "expected" and task.kind != "rating":
        raise ConfigError(f"answers: 'expected' is for ratings, and task {task.name!r} is of kind {task.kind!r}")
    if answers != "free" and decoding is not None and decoding.sample:
        raise ConfigError(f"labels: {answers!r} does not go with sampling; choose one of the two")


def _evaluable(perfit: PerFit, users: Sequence[User], methods: Sequence[str]) -> tuple[list[User], dict[str, int]]:
    known = set(perfit.users())
    left_out = {"users without a personal shift": 0, "queries without a known answer": 0}
    chosen = []
    for user in users:
        if PERSONAL in methods and user.id not in known:
            left_out["users without a personal shift"] += 1
            continue
        queries = tuple(query for query in user.queries if query.gold is not None)
        left_out["queries without a known answer"] += len(user.queries) - len(queries)
        if queries:
            chosen.append(replace(user, queries=queries))
    return chosen, left_out


def _nothing(perfit: PerFit, users: Sequence[User], left_out: Mapping[str, int]) -> str:
    """Why nothing is left to evaluate, and what to do."""
    counts = ", ".join(f"{count} {what}" for what, count in left_out.items() if count)
    if other := _fields_of_another_task(perfit.task, users):
        way_out = other
    elif left_out["users without a personal shift"] == len(users) > 0:
        some = perfit.users()[:1]
        known = f", it has {len(perfit.users())} other users such as '{shown(some[0])}'" if some else ""
        way_out = (
            f"none of these users is in the run{known}: give the data it was trained on, or train them (users add)"
        )
    else:
        way_out = "give users with queries whose answers are known"
    return f"there is nothing to evaluate ({counts or 'no queries'}); {way_out}"


def _fields_of_another_task(task: Task, users: Sequence[User]) -> str | None:
    items = [item for user in users for item in user.history[:1]]
    needed = [name for name in dict.fromkeys((task.body_field, task.history_answer)) if name is not None]
    if not items or any(item.fields.keys() >= set(needed) for item in items):
        return None
    have = ", ".join(map(shown_name, sorted({name for item in items for name in item.fields})[:6]))
    return (
        f"the data are of another task: past items have the fields {have}, the run's task {task.name!r} reads "
        f"{', '.join(map(repr, needed))}; give the data of this task"
    )


def _write_predictions(
    run: RunDirectory, method: str, task: Task, users: Sequence[User], predictions: Mapping[str, str]
) -> str:
    """Write a method's answers; the hash of the file."""
    private_folder(run.path / "predictions")
    path = predictions_path(run, method)
    write_records(
        path,
        (
            {"user": user.id, "query": query.id, "prediction": predictions[query.id]}
            for user in users
            for query in user.queries
        ),
    )
    if task.lamp_id is not None:
        write_lamp(path.with_suffix(".lamp.json"), task, predictions, model=method)
    return hashlib.sha256(path.read_bytes()).hexdigest()
