"""PerFit, as a user of the library types it, on a tiny base."""

from __future__ import annotations

import itertools
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from small_base import CONFIG, TASK, dataset, person, write_base

from perfit.config import PerFitConfig
from perfit.data.jsonl import own_records
from perfit.data.schema import Dataset, HistoryItem, Query, User
from perfit.edits.shift import Shift
from perfit.errors import BaseModelError, ConfigError, DataError, LeakError, PerfitError, StoreError, UnknownUserError
from perfit.events import Skipped, StageBegun, Warned
from perfit.inference.decoding import Decoding
from perfit.personalizer import PerFit
from perfit.run import RunDirectory
from perfit.stop_strings import until_stop
from perfit.tombstones import Tombstones
from perfit.training.examples import RowMaker
from perfit.training.frozen import FrozenRunner
from perfit.training.rows import TokenRow

DATA = dataset()
NAMES = [user.id for user in DATA.users]
QUERIES = [query for user in DATA.users for query in user.queries]
PSEUDO = ["base", "collective"]
Events = list[dict[str, Any]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def new(base: Path) -> Callable[..., PerFit]:
    def make(**changes: Any) -> PerFit:
        return PerFit.from_pretrained(base, CONFIG.with_options(**changes), task=TASK)

    return make


@pytest.fixture(scope="module")
def finished(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests read it and leave it as it is."""
    run = tmp_path_factory.mktemp("finished") / "run"
    PerFit.from_pretrained(base, CONFIG, task=TASK).fit(DATA, run=run)
    return run


@pytest.fixture
def trained(finished: Path) -> PerFit:
    return PerFit.from_pretrained(finished)


def payloads(run: Path) -> dict[str, bytes]:
    with sqlite3.connect(run / "personal.sqlite") as database:
        return dict(database.execute("SELECT user_id, payload FROM users"))


def answers(perfit: PerFit, users: Iterable[str] = (*NAMES, *PSEUDO)) -> list[str]:
    """What each of the users is told on each query."""
    pairs = [(query, user) for query in QUERIES for user in users]
    return perfit.generate([query for query, _ in pairs], [user for _, user in pairs])


def same(a: Shift, b: Shift) -> bool:
    return all(torch.equal(t, b.tensors()[name]) for name, t in a.tensors().items())


def close(a: Shift, b: Shift) -> None:
    for name, t in a.tensors().items():
        torch.testing.assert_close(t, b.tensors()[name], rtol=1e-3, atol=1e-3)


def warnings_of(events: Events) -> list[str]:
    return [event.text for event in events if isinstance(event, Warned)]


# Fitting


def test_every_user_gets_a_shift_of_their_own(trained: PerFit) -> None:
    assert trained.users() == NAMES
    shifts = [trained.shift_of(name) for name in NAMES]
    assert not any(same(a, b) for a, b in itertools.pairwise(shifts))
    assert trained.collective is not None
    assert not any(same(shift, trained.collective[1]) for shift in shifts)


def test_a_run_directory_changes_no_answer(new: Callable[..., PerFit], trained: PerFit) -> None:
    without = new()
    results = without.fit(DATA)
    assert [r.name for r in results] == NAMES
    assert all(r.problem is None and len(r.losses) == 2 and r.steps == 4 for r in results)
    for name in NAMES:
        close(without.shift_of(name), trained.shift_of(name))
    assert answers(without) == answers(trained)


def test_plain_users_train_stage_1_on_their_own_histories_and_say_so(new: Callable[..., PerFit]) -> None:
    perfit, events = new(), Events()
    perfit.fit(DATA.users, listener=events.append)
    assert any("no other users" in line for line in warnings_of(events))
    rows = [e.rows for e in events if isinstance(e, StageBegun)]
    assert rows == [15, 15]  # three histories of five; no query
    assert perfit.users() == NAMES


def test_a_user_without_history_is_skipped_and_nobody_else_notices(new: Callable[..., PerFit], trained: PerFit) -> None:
    perfit, events = new(), Events()
    users = (DATA.users[0], User("empty", (), ()), *DATA.users[1:])
    results = {r.name: r for r in perfit.fit(replace(DATA, users=users), listener=events.append)}
    assert "empty history" in (results.pop("empty").problem or "")
    assert sorted(results) == perfit.users() == NAMES
    assert [e.learner for e in events if isinstance(e, Skipped)] == ["empty"]
    for name in NAMES:
        close(perfit.shift_of(name), trained.shift_of(name))


def test_a_user_whose_loss_is_not_finite_is_skipped_and_nobody_else_notices(
    new: Callable[..., PerFit], trained: PerFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    perfit = new()
    maker = RowMaker(TASK, perfit.backbone.tokenizer, CONFIG)
    bens = {row.prompt_ids for row in maker.history_rows(DATA.users[1])}
    honest = FrozenRunner.answer_loss

    def spoilt(self: FrozenRunner, items: Any, slots: Any, shift: Any, lead: Any = None) -> torch.Tensor:
        factor = [float("nan") if item.row.prompt_ids in bens else 1.0 for item in items]
        return honest(self, items, slots, shift, lead) * torch.tensor(factor)

    monkeypatch.setattr(FrozenRunner, "answer_loss", spoilt)
    results = {r.name: r.problem for r in perfit.fit(DATA)}
    assert "not finite" in (results["ben"] or "")
    assert perfit.users() == ["anna", "cleo"]
    for name in perfit.users():
        close(perfit.shift_of(name), trained.shift_of(name))


def test_a_leak_stops_training_before_anything_is_written_and_may_be_allowed(
    new: Callable[..., PerFit], tmp_path: Path
) -> None:
    victim = DATA.users[0]
    item = HistoryItem("leak", {"text": victim.queries[0].input, "folder": victim.queries[0].gold or ""})
    leaky = replace(DATA, users=(replace(victim, history=(*victim.history, item)), *DATA.users[1:]))
    perfit, run = new(), tmp_path / "run"
    with pytest.raises(LeakError, match="1 leaks"):
        perfit.fit(leaky, run=run)
    assert not run.exists()
    assert perfit.users() == []
    perfit.fit(leaky, run=run, allow_leaks=True)
    assert perfit.users() == NAMES


@pytest.mark.parametrize("name", PSEUDO)
def test_a_user_named_like_a_pseudo_user_is_refused(
    name: str, new: Callable[..., PerFit], trained: PerFit, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=rf"'{name}'.*rename"):
        new().fit([person(name), *DATA.users], run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(DataError, match=rf"'{name}'.*rename"):
        trained.personalize(person(name))


def test_two_users_with_one_id_are_refused(new: Callable[..., PerFit]) -> None:
    with pytest.raises(DataError, match="'anna' comes twice"):
        new().fit([person("anna"), person("ben"), person("anna")])


def test_fitting_again_forgets_the_users_of_the_old_collective_shift(new: Callable[..., PerFit]) -> None:
    perfit = new()
    perfit.fit(DATA)
    perfit.fit(dataset(("dora",)))
    assert perfit.users() == ["dora"]


def test_fitting_a_loaded_run_anew_leaves_that_run_alone(trained: PerFit, finished: Path) -> None:
    before = payloads(finished)
    trained.fit(dataset(("dora",)))
    assert trained.users() == ["dora"]
    trained.personalize(person("emil"))
    assert payloads(finished) == before


@pytest.mark.parametrize(
    ("users", "message"),
    [
        ((replace(person("anna"), history=(HistoryItem("0", {"text": "a b", "folder": "nowhere"}),)),), "labels"),
        ((User("anna"),), "nothing to train on"),
    ],
)
def test_unusable_data_leaves_no_run_in_the_way(
    users: tuple[User, ...], message: str, new: Callable[..., PerFit], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        new().fit(users, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    new().fit(DATA, run=tmp_path / "run")


@pytest.mark.parametrize(
    "changes", [{"memory_gib": 0.1}, {"personal_rank": 99}, {"stage1.learning_rate": 1e30}], ids=str
)
def test_a_training_that_never_got_going_leaves_no_run_in_the_way(
    changes: dict[str, Any], new: Callable[..., PerFit], tmp_path: Path
) -> None:
    with pytest.raises(PerfitError):
        new(**changes).fit(DATA, run=tmp_path)
    new().fit(DATA, run=tmp_path)
    assert RunDirectory(tmp_path).manifest()["config"] == CONFIG.as_dict()


# Runs


def test_a_finished_run_called_again_returns_at_once_with_the_same_result(
    new: Callable[..., PerFit], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = new().fit(DATA, run=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(FrozenRunner, "prepare", None)  # training would fail
    perfit = new()
    again = perfit.fit(DATA, run=tmp_path)
    assert [(r.name, r.losses, r.steps, r.problem) for r in again] == [
        (r.name, r.losses, r.steps, r.problem) for r in first
    ]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert len(answers(perfit)) == len(QUERIES) * 5


@pytest.mark.parametrize(
    ("data", "changes"),
    [
        (dataset(history=4), {}),
        (DATA, {"seed": 1}),
        (DATA, {"stage2.epochs": 3}),
        (dataset(others=2), {}),
        (dataset(("anna", "ben")), {}),
    ],
)
def test_a_run_of_other_data_or_settings_is_refused(
    data: Dataset, changes: dict[str, Any], new: Callable[..., PerFit], finished: Path
) -> None:
    before = payloads(finished)
    with pytest.raises(
        StoreError, match=r"holds another run, with (other data|seed 0, not 1|stage2\.epochs 2, not 3);"
    ):
        new(**changes).fit(data, run=finished)
    assert payloads(finished) == before


def test_a_run_of_another_base_is_refused(
    new: Callable[..., PerFit], finished: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = write_base(tmp_path_factory.mktemp("other"), seed=1)
    with pytest.raises(StoreError, match="another base"):
        PerFit.from_pretrained(other, CONFIG, task=TASK).fit(DATA, run=finished)
    run = RunDirectory(tmp_path_factory.mktemp("foreign"))
    manifest = RunDirectory(finished).manifest()
    run.create(manifest | {"base": manifest["base"] | {"name": str(other)}})
    with pytest.raises(BaseModelError, match="weights is"):
        PerFit.from_pretrained(run.path)


@pytest.mark.parametrize("part", ["base", "task", "config"])
def test_a_manifest_without_a_part_is_one_line(part: str, finished: Path, tmp_path: Path) -> None:
    manifest = RunDirectory(finished).manifest()
    run = RunDirectory(tmp_path)
    run.create({name: value for name, value in manifest.items() if name != part})
    with pytest.raises(StoreError, match=r"manifest\.json") as caught:
        PerFit.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"task": {"name": "x"}}, {"config": {"layers": 3}}, {"base": {"name": 3}}])
def test_a_manifest_of_wrong_values_is_one_line(change: dict[str, Any], finished: Path, tmp_path: Path) -> None:
    RunDirectory(tmp_path).create(RunDirectory(finished).manifest() | change)
    with pytest.raises((StoreError, ConfigError, BaseModelError)) as caught:
        PerFit.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_lost_store_is_not_taken_for_an_empty_one(new: Callable[..., PerFit], tmp_path: Path) -> None:
    new().fit(DATA, run=tmp_path)
    (tmp_path / "personal.sqlite").unlink()
    with pytest.raises(StoreError, match="no store here"):
        PerFit.from_pretrained(tmp_path)
    with pytest.raises(StoreError, match="no store here"):
        new().fit(DATA, run=tmp_path)


def test_a_collective_shift_that_is_not_the_users_own_is_refused(new: Callable[..., PerFit], tmp_path: Path) -> None:
    new().fit(DATA, run=tmp_path)
    path = tmp_path / "collective.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # one bit of a weight: the file is still a shift
    path.write_bytes(content)
    with pytest.raises(StoreError, match="is damaged, or of another run"):
        PerFit.from_pretrained(tmp_path)


# Answering


def test_rows_of_mixed_users_equal_each_row_alone(trained: PerFit) -> None:
    owners = ["anna", "base", "ben", "collective", "cleo", "anna"]
    prompts = [query.input + " river" * n for n, query in enumerate(QUERIES)]
    together = trained.generate(prompts, owners)
    assert together == [trained.generate([p], [o])[0] for p, o in zip(prompts, owners, strict=True)]


def test_users_are_answered_differently(trained: PerFit) -> None:
    assert len(set(trained.generate([QUERIES[0]] * 5, [*NAMES, *PSEUDO]))) > 2


def test_base_is_the_untouched_model(trained: PerFit, new: Callable[..., PerFit]) -> None:
    ids = RowMaker(TASK, trained.backbone.tokenizer, CONFIG).prompt(QUERIES[0]).prompt_ids
    raw: Any = trained.backbone.model
    out = raw.generate(torch.tensor([list(ids)]), max_new_tokens=6, do_sample=False)[0, len(ids) :]
    text = trained.backbone.tokenizer.decode(out, skip_special_tokens=True)
    decoding = Decoding(max_new_tokens=6)
    assert trained.generate([QUERIES[0]], ["base"], decoding=decoding) == [text]
    assert new().generate([QUERIES[0].input], ["base"], decoding=decoding) == [text]


def test_a_text_and_a_query_of_it_are_the_same_prompt(trained: PerFit) -> None:
    query = Query("q", "a lamp on the bridge", None)
    assert trained.generate([query], ["anna"]) == trained.generate([query.input], ["anna"])


def test_an_unknown_user_is_an_error_for_the_whole_call(trained: PerFit) -> None:
    with pytest.raises(UnknownUserError, match="'nobody'"):
        trained.generate(["a", "b"], ["anna", "nobody"])
    with pytest.raises(UnknownUserError, match="'nobody'"):
        trained.shift_of("nobody")


def test_without_a_shift_only_base_can_answer(new: Callable[..., PerFit]) -> None:
    for user in ("collective", "anna"):
        with pytest.raises(StoreError, match="no collective shift"):
            new().generate(["a"], [user])
    with pytest.raises(StoreError, match="no collective shift"):
        new().personalize(person("dora"))
    with pytest.raises(StoreError, match="nothing to save"):
        new().save_pretrained("unused")


def test_prompts_and_users_must_be_as_many(trained: PerFit) -> None:
    with pytest.raises(ConfigError, match="2 given for 1 prompts"):
        trained.generate(["a"], ["anna", "ben"])
    assert trained.generate([], []) == []


# How answers are chosen


def test_length_warmth_and_stops_are_what_a_decoding_says(trained: PerFit) -> None:
    ask = ([QUERIES[0]] * 2, ["anna", "collective"])
    whole = trained.generate(*ask, max_new_tokens=5)
    assert whole == trained.generate(*ask, decoding=Decoding(max_new_tokens=5))
    assert trained.generate(*ask, temperature=0) == trained.generate(*ask)
    warm = Decoding(max_new_tokens=trained.answer_limit(), sample=True, temperature=9.0)
    assert trained.generate(*ask, temperature=9) == trained.generate(*ask, decoding=warm)
    assert trained.generate(*ask, temperature=9) != trained.generate(*ask)
    stop = whole[0][2]
    cut = [until_stop(text, (stop,)) for text in whole]
    assert trained.generate(*ask, max_new_tokens=5, stop=stop) == cut != whole
    assert trained.generate(*ask, max_new_tokens=5, stop=[stop]) == cut


def test_a_task_s_stops_end_answers_unless_others_are_named(trained: PerFit) -> None:
    ask = ([QUERIES[0]] * 2, ["anna", "collective"])
    whole = trained.generate(*ask)
    task = replace(TASK, stop=("\0", whole[0][2]), labels=(), kind="text")
    perfit = PerFit(trained.backbone, task, CONFIG, trained.identity)
    perfit.owners = trained.owners
    assert perfit.generate(*ask) == [until_stop(text, task.stop) for text in whole] != whole
    assert perfit.generate(*ask, stop=[]) == whole
    assert perfit.generate(*ask, max_new_tokens=6) == perfit.generate(*ask)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"stop": "a", "decoding": Decoding()}, "stop: is given beside decoding, which says it too"),
        ({"temperature": 0, "decoding": Decoding()}, "temperature: is given beside decoding"),
        ({"max_new_tokens": "8"}, "max_new_tokens: '8' is not possible; give a whole number"),
        ({"max_new_tokens": 0}, "max_new_tokens: 0 is not possible"),
        ({"temperature": -1}, "temperature: -1 is not possible; give 0"),
        ({"temperature": float("nan")}, "temperature: nan is not possible"),
        ({"temperature": "hot"}, "temperature: 'hot' is not possible"),
        ({"stop": ""}, r"stop\[0\]: '' is empty"),
    ],
)
def test_what_is_impossible_or_said_twice_is_one_line(how: dict[str, Any], said: str, trained: PerFit) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        trained.generate(["a"], ["anna"], **how)
    assert "\n" not in str(refused.value)


def test_it_says_what_it_is_in_one_line(trained: PerFit, new: Callable[..., PerFit]) -> None:
    said = repr(trained)
    for part in (
        f"PerFit(base={trained.backbone.name!r}",
        "task='folders', layers=[0, 1], ranks=4+3, positions='l3', users=3, strength=1)",
    ):
        assert part in said
    untrained = new(strength=0.75)
    assert "users=0, strength=0.75)" in repr(untrained)
    untrained.backbone.name = "a\nname"
    assert "\n" not in repr(untrained)


# One more user


def test_a_new_user_touches_nobody_and_gets_what_fit_would_have_given(
    new: Callable[..., PerFit], tmp_path: Path
) -> None:
    perfit = new()
    perfit.fit(DATA, run=tmp_path / "run")
    before, told = payloads(tmp_path / "run"), answers(perfit)
    trained = perfit.personalize(person("dora"))
    assert trained.problem is None
    assert perfit.users() == [*NAMES, "dora"]
    after = payloads(tmp_path / "run")
    assert after.pop("dora")
    assert after == before
    assert answers(perfit) == told
    together = new()
    together.fit(replace(DATA, users=(*DATA.users, person("dora"))))
    close(together.shift_of("dora"), perfit.shift_of("dora"))


def test_a_new_user_without_history_changes_nothing(new: Callable[..., PerFit], tmp_path: Path) -> None:
    perfit = new()
    perfit.fit(DATA, run=tmp_path)
    before = payloads(tmp_path)
    assert perfit.personalize(User("empty")).problem is not None
    assert payloads(tmp_path) == before
    assert perfit.users() == NAMES


# Shortened prompts are counted and said


def test_nobody_comes_back_while_another_process_has_the_run(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    erased = replace(DATA.users[0], id="erased", queries=())
    Tombstones(tmp_path / "run").put(erased.id, "done")
    perfit = PerFit.from_pretrained(tmp_path / "run")
    with RunDirectory(tmp_path / "run").locked(), pytest.raises(StoreError, match="another process"):
        perfit.personalize(erased)
    assert erased.id in Tombstones(tmp_path / "run")
    assert erased.id not in perfit.users()
    perfit.personalize(erased)
    assert erased.id not in Tombstones(tmp_path / "run")
    assert erased.id in perfit.users()


def test_shortened_prompts_are_counted_wherever_they_happen(new: Callable[..., PerFit]) -> None:
    perfit = new(max_length=32)
    long = replace(person("anna"), history=(HistoryItem("0", {"text": "river " * 99, "folder": "work"}),) * 3)
    for act, count in (
        (
            lambda listener: perfit.fit([replace(long, queries=()), person("ben")], listener=listener),
            6,
        ),  # both stages read it
        (lambda listener: perfit.personalize(long, listener=listener), 3),
        (
            lambda listener: perfit.generate(
                ["river " * 99, "river " * 98, "river " * 99, "river"], ["base"] * 4, listener=listener
            ),
            2,
        ),
    ):
        events = Events()
        act(events.append)
        assert any(line.startswith(f"{count} shortened prompts") for line in warnings_of(events)), warnings_of(events)


def test_more_tokens_than_the_base_has_positions_are_refused(new: Callable[..., PerFit]) -> None:
    with pytest.raises(ConfigError, match=r"max_length: 1025.*1024 positions"):
        new(max_length=1025)


# At rest


def test_what_is_saved_answers_the_same_when_loaded(
    trained: PerFit, new: Callable[..., PerFit], tmp_path: Path
) -> None:
    trained.save_pretrained(tmp_path / "copy")
    again = PerFit.from_pretrained(tmp_path / "copy")
    assert (again.users(), again.config, again.task) == (trained.users(), trained.config, trained.task)
    assert answers(again) == answers(trained)
    memory = new()
    memory.fit(DATA)
    memory.save_pretrained(tmp_path / "memory")
    assert answers(PerFit.from_pretrained(tmp_path / "memory")) == answers(memory)


def test_a_copy_keeps_how_each_user_was_trained(trained: PerFit, new: Callable[..., PerFit], tmp_path: Path) -> None:
    from perfit.store import ShiftStore

    trained.save_pretrained(tmp_path / "copy")
    memory = new()
    memory.fit(DATA)
    memory.save_pretrained(tmp_path / "memory")
    for folder in ("copy", "memory"):
        with ShiftStore.open(tmp_path / folder / "personal.sqlite", readonly=True) as store:
            assert store.get("anna").meta["steps"] == 4


def test_saving_a_run_onto_itself_leaves_it_resumable(new: Callable[..., PerFit], tmp_path: Path) -> None:
    perfit = new()
    perfit.fit(DATA, run=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    perfit.save_pretrained(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    new().fit(DATA, run=tmp_path)


def test_saving_again_takes_new_users_along(new: Callable[..., PerFit], tmp_path: Path) -> None:
    perfit = new()
    perfit.fit(DATA)
    perfit.save_pretrained(tmp_path)
    perfit.personalize(person("dora"))
    perfit.save_pretrained(tmp_path)
    assert PerFit.from_pretrained(tmp_path).users() == [*NAMES, "dora"]


def test_saving_over_another_run_is_refused(new: Callable[..., PerFit], finished: Path) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    perfit = new()
    perfit.fit(dataset(("dora",), others=2))
    with pytest.raises(StoreError, match="another run"):
        perfit.save_pretrained(finished)
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_a_shift_of_another_collective_shift_is_not_taken_in(
    new: Callable[..., PerFit], finished: Path, tmp_path: Path
) -> None:
    from perfit.store import ShiftStore

    perfit = new()
    perfit.fit(dataset(("dora",), others=2), run=tmp_path / "run")
    with ShiftStore.open(tmp_path / "run" / "personal.sqlite") as store:
        store.export_user("dora", tmp_path / "dora.safetensors")
    PerFit.from_pretrained(finished).save_pretrained(tmp_path / "copy")
    with (
        ShiftStore.open(tmp_path / "copy" / "personal.sqlite") as store,
        pytest.raises(StoreError, match="another kind of shift: collective"),
    ):
        store.import_user(tmp_path / "dora.safetensors")


def test_a_run_goes_to_the_hub_as_it_lies_on_disk(trained: PerFit, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    class FakeHub:
        def __init__(self, token: str | None):
            seen["token"] = token

        def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
            seen["private"] = private

        def repo_info(self, repo_id: str) -> SimpleNamespace:
            return SimpleNamespace(private=seen.get("lies private", True))

        def upload_folder(self, *, repo_id: str, folder_path: str) -> str:
            seen["files"] = sorted(path.name for path in Path(folder_path).rglob("*") if path.is_file())
            loaded = PerFit.from_pretrained(folder_path)
            seen["answers"] = answers(loaded)
            return f"https://hub/{repo_id}"

    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
    assert trained.push_to_hub("me/run", token="t") == "https://hub/me/run"
    assert (seen["token"], seen["private"]) == ("t", True)
    assert seen["files"] == ["README.md", "collective.safetensors", "manifest.json", "personal.sqlite"]
    assert seen["answers"] == answers(trained)
    del seen["answers"]
    seen["lies private"] = False
    with pytest.raises(StoreError, match="is public"):
        trained.push_to_hub("me/run")
    assert "answers" not in seen


def test_saving_twice_keeps_users_that_only_the_copy_has(trained: PerFit, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path / "copy")
    copy = PerFit.from_pretrained(tmp_path / "copy")
    extra = replace(dataset(("extra",), others=2).users[0], queries=())
    copy.personalize(extra)
    trained.save_pretrained(tmp_path / "copy")
    assert PerFit.from_pretrained(tmp_path / "copy").users() == sorted([*trained.users(), "extra"])


def test_two_trainings_in_one_run_are_refused(new: Callable[..., PerFit], tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "run").locked(), pytest.raises(StoreError, match="another process"):
        new().fit(dataset(("dora",), others=2), run=tmp_path / "run")


def test_one_more_user_is_audited_too(trained: PerFit) -> None:
    user = dataset(("leaky",), others=2).users[0]
    item = user.history[0]
    text = "one two three four five " + item.fields[TASK.body_field or ""]
    answer = item.fields[TASK.history_answer]
    leaky = replace(
        user,
        history=(replace(item, fields={**item.fields, TASK.body_field or "": text}), *user.history[1:]),
        queries=(Query("asked", text, answer),),
    )
    with pytest.raises(LeakError):
        trained.personalize(leaky)


def test_a_run_brings_its_own_config_and_task(finished: Path) -> None:
    with pytest.raises(ConfigError, match="brings its own"):
        PerFit.from_pretrained(finished, task=TASK)


# The limit of an answer


def test_label_answers_have_room_for_the_longest_label_and_an_end(trained: PerFit) -> None:
    tokenizer = trained.backbone.tokenizer
    longest = max(len(tokenizer.encode(" " + label)) for label in TASK.labels)
    assert trained.answer_limit() == min(longest + 3, TASK.max_new_tokens)
    for tight in (longest, longest + 1):
        task = replace(TASK, max_new_tokens=tight)
        assert PerFit(trained.backbone, task, CONFIG, trained.identity).answer_limit() == tight
    brief = PerFit(trained.backbone, replace(TASK, max_new_tokens=longest - 1), CONFIG, trained.identity)
    with pytest.raises(ConfigError, match=f"at least {longest}"):
        brief.answer_limit()
    text = PerFit(trained.backbone, replace(TASK, kind="text", labels=()), CONFIG, trained.identity)
    assert text.answer_limit() == TASK.max_new_tokens


def test_rows_are_tokens_of_the_named_layers(new: Callable[..., PerFit]) -> None:
    with pytest.raises(ConfigError, match="layers: 3"):
        new(layers=(3,))
    assert isinstance(TokenRow((1,), (2,)).input_ids, tuple)
    assert PerFitConfig.from_dict(CONFIG.as_dict()) == CONFIG


@pytest.mark.parametrize("name", ["backbone", "task", "config", "identity"])
def test_what_it_was_made_with_is_not_assigned_to(new: Callable[..., PerFit], name: str) -> None:
    perfit = new()
    with pytest.raises(AttributeError, match=name):
        setattr(perfit, name, getattr(perfit, name))


def test_records_train_as_the_dataset_of_them_and_say_what_was_sorted(
    new: Callable[..., PerFit], trained: PerFit
) -> None:
    records = own_records(DATA)
    perfit, events = new(), Events()
    perfit.fit(records, listener=events.append)
    assert perfit.users() == NAMES
    assert answers(perfit) == answers(trained)
    dated = [{"text": f"a note of {year}", "folder": "work", "date": str(year)} for year in (2020, 2019)]
    perfit.fit([{"user": "dora", "history": dated}, *records[3:]], listener=events.append)
    assert any("sorted by date" in line for line in warnings_of(events))
    assert perfit.personalize(own_records(Dataset((person("emil"),)))[0]).name == "emil"
