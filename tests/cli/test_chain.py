"""The whole way on a tiny base: data, training, scores, answers, users."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import SETTINGS, House, Outcome, Perfit, furnish
from small_base import dataset

from perfit import PerFit
from perfit.data import read_dataset
from perfit.data.jsonl import write_jsonl
from perfit.data.schema import Dataset, User
from perfit.edits.shift import from_stored
from perfit.errors import ConfigError
from perfit.events.trackers import TRACKERS, TensorBoard
from perfit.methods.memory import Memory
from perfit.run import RunDirectory
from perfit.stop_strings import until_stop
from perfit.store.shifts import ShiftStore

FLOORS = ("floor_majority", "floor_user_majority", "floor_nearest", "floor_linear")
ODD_IDS = (
    "../../x",
    "/etc/passwd",
    "two words",
    "Ünï 用户 😀",
    "[red]b[/b] :smile:",
    "-dash",
    "a\\b%00",
    "'; DROP TABLE users",
)


@pytest.fixture
def own(base: Path, tmp_path: Path) -> House:
    """A run that a test may change."""
    return furnish(tmp_path, base, "anna", "ben")


def good(done: Outcome) -> Outcome:
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    return done


def payloads(run: Path) -> dict[str, bytes]:
    with sqlite3.connect(run / "personal.sqlite") as database:
        return dict(database.execute("SELECT user_id, payload FROM users"))


def test_demo_users_go_the_whole_way(base: Path, tmp_path: Path, perfit: Perfit) -> None:
    data, run = tmp_path / "demo.jsonl", tmp_path / "run"
    sizes = ("--users", "2", "--others", "2", "--history", "6", "--queries", "2")
    shown = good(perfit("data", "demo", data, *sizes))
    assert f"2 users and 2 others -> {data}" in shown.out
    assert "0 leaks" in good(perfit("data", "audit", data, "--task", "LaMP_2N")).out
    train = ("train", data, "--task", "news_categorize", "--base", base, "--run", run, *SETTINGS)
    shown = good(perfit(*train))
    assert "2 users trained, 0 skipped" in shown.err
    assert shown.out == ""
    assert "2 users trained" in good(perfit(*train)).err  # again: at once
    shown = good(perfit("evaluate", data, "--run", run))
    for name in (
        "floor: majority",
        "floor: user_majority",
        "floor: nearest",
        "floor: linear",
        "base",
        "collective",
        "personal",
        "macro_f1",
    ):
        assert name in shown.out
    assert "personal against collective" in shown.out
    users = good(perfit("users", "list", "--run", run)).out.split()
    assert users == ["demo-user-000", "demo-user-001"]
    asked = ("a storm closed the harbour", "a goal in the last minute")
    shown = good(perfit("generate", *asked, "--user", users[0], "--user", "base", "--run", run))
    assert [line.split()[0] for line in shown.out.splitlines()] == [users[0], "base"] * 2
    facts = good(perfit("info", run)).out
    assert "demo.jsonl (2 users, 2 others)" in facts
    assert "trained" in facts
    assert good(perfit("info")).out.count("torch") == 1
    readme = (run / "README.md").read_text()
    for path in sorted(run.rglob("*")):
        assert path.is_dir() or _named(path.relative_to(run), readme), path


def _named(path: Path, readme: str) -> bool:
    """Whether a file stands in the table, by name or by a pattern such as ``predictions/*.jsonl``."""
    names = [
        name for row in readme.splitlines() if row.startswith("| `") for name in row.split("|")[1].split("`")[1::2]
    ]
    return any(path.match(name) for name in names)


def test_json_is_all_that_is_on_stdout(own: House, tmp_path: Path, perfit: Perfit) -> None:
    run, options = own.run, ("--run", own.run, "--json")
    write_jsonl(dataset(("dora",)), tmp_path / "dora.jsonl")

    def told(*arguments: str | Path) -> Any:
        return json.loads(good(perfit(*arguments)).out)

    assert told("data", "audit", own.data, "--task", own.task, "--json")["leaks"] == 0
    assert told(*own.train, *options) == {"run": str(run), "trained": 2, "skipped": []}
    scores = told("evaluate", own.data, *options, "--methods", "personal,base")
    assert list(scores["methods"]) == [*FLOORS, "personal", "base"]
    assert scores.items() < json.loads((run / "metrics.json").read_text()).items()
    answers = told("generate", "a lamp", "--user", "anna", "--user", "base", *options)
    assert [answer["user"] for answer in answers] == ["anna", "base"]
    assert told("users", "list", *options) == ["anna", "ben"]
    assert told("users", "show", "anna", *options)["layers"] == 2
    assert told("users", "add", "dora", "--data", tmp_path / "dora.jsonl", *options)["user"] == "dora"
    assert told("info", run, "--json")["users_with_a_shift"] == 3
    assert told("info", "--json")["perfit"]


def test_a_users_facts_are_of_the_own_shift_against_the_second_shared_one(house: House, perfit: Perfit) -> None:
    facts = json.loads(good(perfit("users", "show", "ben", "--run", house.run, "--json")).out)
    second = RunDirectory(house.run).collective().shifts[1]
    with ShiftStore.open(house.run / "personal.sqlite", readonly=True) as store:
        own = store.get("ben")
    shift = from_stored(own.tensors)
    assert facts["change_of_weights"] == round(float((shift.D - second.D).norm()), 4) > 0
    assert facts["change_of_bias"] == round(float((shift.b - second.b).norm()), 4) > 0
    assert (facts["layers"], facts["rank"], facts["hidden_size"]) == (2, 3, 32)
    assert facts["parameters"] == 2 * 3 * (2 * 32 + 1)
    assert facts["bytes"] == 2 * facts["parameters"]
    assert own.meta.items() <= facts.items()
    assert {"steps", "strength"} <= own.meta.keys()


def test_generate_reads_pairs_from_a_file(house: House, tmp_path: Path, perfit: Perfit) -> None:
    lines = [{"user": user, "input": "a river of stone"} for user in ("anna", "ben", "base", "collective")]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    told = json.loads(good(perfit("generate", "--input", tmp_path / "in.jsonl", "--run", house.run, "--json")).out)
    assert [answer["user"] for answer in told] == ["anna", "ben", "base", "collective"]
    alone = json.loads(good(perfit("generate", "a river of stone", "--user", "ben", "--run", house.run, "--json")).out)
    assert alone == [told[1]]


def test_users_come_and_go_without_touching_each_other(own: House, tmp_path: Path, perfit: Perfit) -> None:
    run = ("--run", own.run)
    before = payloads(own.run)
    write_jsonl(dataset(("dora",)), tmp_path / "dora.jsonl")
    assert "dora: 1 steps" in good(perfit("users", "add", "dora", "--data", tmp_path / "dora.jsonl", *run)).out
    dora = payloads(own.run)["dora"]
    assert payloads(own.run) == before | {"dora": dora}
    file = tmp_path / "dora.safetensors"
    good(perfit("users", "export", "dora", file, *run))
    refused = perfit("users", "import", file, *run)
    assert refused.code == 1
    assert "stored already" in refused.err
    good(perfit("users", "delete", "dora", *run))
    assert payloads(own.run) == before
    assert dora not in (own.run / "personal.sqlite").read_bytes()
    good(perfit("users", "import", file, *run))
    good(perfit("users", "import", file, "--user", "twin", *run))
    assert payloads(own.run) == before | {"dora": dora, "twin": dora}
    for pseudo in ("base", "collective"):
        assert perfit("users", "import", file, "--user", pseudo, *run).code == 1
    told = json.loads(good(perfit("generate", "a", "--user", "dora", "--user", "twin", *run, "--json")).out)
    assert told[0]["answer"] == told[1]["answer"]


def test_a_user_of_another_run_is_refused(own: House, house: House, tmp_path: Path, perfit: Perfit) -> None:
    other = tmp_path / "other"
    good(perfit(*own.train, "--run", other, "--set", "seed=1"))
    good(perfit("users", "export", "anna", tmp_path / "anna.safetensors", "--run", other))
    refused = perfit("users", "import", tmp_path / "anna.safetensors", "--run", own.run, "--user", "new")
    assert refused.code == 1
    assert "another kind of shift: collective" in refused.err
    assert payloads(own.run) == payloads(house.run)  # equal data and settings: equal bytes


def test_ids_are_never_paths_or_markup(base: Path, tmp_path: Path, perfit: Perfit) -> None:
    inside = tmp_path / "deep" / "inside"
    inside.mkdir(parents=True)
    house = furnish(inside, base, *ODD_IDS)
    run = ("--run", house.run)
    assert json.loads(good(perfit("users", "list", *run, "--json")).out) == sorted(ODD_IDS)
    assert good(perfit("users", "list", *run)).out.splitlines() == sorted(ODD_IDS)
    good(perfit("evaluate", house.data, *run))
    before = payloads(house.run)
    for number, user in enumerate(ODD_IDS):
        told = json.loads(good(perfit("generate", "a lamp", f"--user={user}", *run, "--json")).out)
        assert told[0]["user"] == user
        assert user in good(perfit("generate", "a lamp", f"--user={user}", *run)).out
        assert user in good(perfit("users", "show", *run, "--", user)).out
        file = tmp_path / f"{number}.safetensors"
        good(perfit("users", "export", *run, "--", user, str(file)))
        good(perfit("users", "delete", *run, "--", user))
        good(perfit("users", "import", file, *run))
        assert payloads(house.run) == before
        good(perfit("users", "add", "--data", house.data, *run, "--", user))
        assert set(payloads(house.run)) == set(ODD_IDS)
        before = payloads(house.run)
    made = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert made == {
        *("data.jsonl", "task.yaml", "README.md", "manifest.json", "collective.safetensors", "personal.sqlite"),
        # The scores went with the first user, for they were theirs too, and the predictions with the last.
        *("training.jsonl", "events.jsonl", "erased.json", ".lock"),
        *(f"{number}.safetensors" for number in range(len(ODD_IDS))),
    }


def test_the_floors_can_be_left_out_and_the_task_be_named(own: House, perfit: Perfit) -> None:
    shown = good(perfit("evaluate", own.data, "--run", own.run, "--task", own.task, "--no-floors", "--methods", "base"))
    assert "floor" not in shown.out


def test_a_leak_can_be_allowed_for_one_more_user(own: House, tmp_path: Path, perfit: Perfit) -> None:
    text = "a note that is not short at all"
    record = {"user": "dora", "history": [{"text": text, "folder": "work"}]}
    (tmp_path / "leak.jsonl").write_text(json.dumps(record | {"queries": [{"input": text, "gold": "work"}]}))
    add = ("users", "add", "dora", "--data", tmp_path / "leak.jsonl", "--run", own.run)
    assert perfit(*add).code == 3
    assert "dora" not in payloads(own.run)
    good(perfit(*add, "--allow-leaks"))
    assert "dora" in payloads(own.run)


def test_revision_and_layers_path_reach_the_loader(
    house: House, tmp_path: Path, perfit: Perfit, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perfit import opening

    revisions = []
    original = opening.load_base

    def load_base(*arguments: Any, **options: Any) -> Any:
        revisions.append(options.get("revision"))
        return original(*arguments, **options)

    monkeypatch.setattr(opening, "load_base", load_base)
    run = tmp_path / "run"
    good(perfit(*house.train, "--run", run, "--revision", "v1", "--layers-path", "model.layers"))
    good(perfit(*house.train, "--run", run))
    assert revisions == ["v1", None]
    assert RunDirectory(run).manifest()["base"]["layers_path"] == "model.layers"


def test_tensorboard_is_written_to_the_end(house: House, tmp_path: Path, perfit: Perfit) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    good(perfit(*house.train, "--run", tmp_path / "run", "--tensorboard", tmp_path / "board"))
    read = accumulator.EventAccumulator(str(tmp_path / "board"))
    read.Reload()
    assert "stage2/loss" in read.Tags()["scalars"]


def test_a_training_is_tracked_where_it_is_asked_to_be(
    house: House, tmp_path: Path, perfit: Perfit, monkeypatch: pytest.MonkeyPatch
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    good(perfit(*house.train, "--run", tmp_path / "run", "--track", "tensorboard"))
    read = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    read.Reload()
    assert "stage2/loss" in read.Tags()["scalars"]
    assert {(tmp_path / "run" / name).stat().st_mode & 0o777 for name in ("", "tensorboard")} == {0o700}
    settings: dict[str, Any] = {}

    def wandb(run: Path, found: dict[str, Any]) -> TensorBoard:
        settings.update(found)
        return TensorBoard(run / "w")

    monkeypatch.setitem(TRACKERS, "wandb", wandb)  # type: ignore[call-overload]
    good(perfit(*house.train, "--run", tmp_path / "two", "--track", "wandb"))
    assert (settings["task"], settings["base"]) == ("folders", house.base.name)
    assert settings["stage1"]["epochs"] > 0
    refused = perfit(*house.train, "--run", tmp_path / "three", "--track", "mlflow")
    assert (refused.code, len(refused.err.splitlines())) == (2, 1)
    assert "choose tensorboard, wandb, trackio" in refused.err
    assert not (tmp_path / "three").exists()


def test_what_the_engine_chose_is_shown_where_it_is_asked_for(house: House, tmp_path: Path, perfit: Perfit) -> None:
    plain = good(perfit(*house.train, "--run", tmp_path / "one")).err
    told = good(perfit(*house.train, "--run", tmp_path / "two", "--verbose")).err
    talk = ("memory 8.0 GiB: base", "products float32", "tokens shared by all prompts", "peak memory ")
    assert [words for words in talk if words in plain] == []
    assert [words for words in talk if words in told] == list(talk)
    assert plain.splitlines()[-2] == f"2 users trained, 0 skipped; run: {tmp_path / 'one'}"


def test_quickstart_misses_what_scores_need_before_it_trains(
    tmp_path: Path, perfit: Perfit, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    refused = perfit("quickstart", "--base", tmp_path / "none", "--run", tmp_path / "run")
    assert refused.code == 1
    assert "perfit[eval]" in refused.err


def test_lamp_files_are_scored_without_a_run(tmp_path: Path, perfit: Perfit) -> None:
    golds = [{"id": "1", "output": "politics"}, {"id": "2", "output": "sports"}, {"id": "3", "output": "food & drink"}]
    found = [{"id": "1", "output": "politics"}, {"id": "2", "output": "sport"}, {"id": "3", "output": "politics"}]
    for name, content in (("golds", golds), ("found", found)):
        (tmp_path / name).write_text(json.dumps({"task": "LaMP_2N", "golds": content}))
    files = ("--lamp", tmp_path / "found", tmp_path / "golds")
    shown = good(perfit("evaluate", *files)).out
    assert "0.3333" in shown
    assert "33.3% of 3" in shown
    told = json.loads(good(perfit("evaluate", *files, "--json")).out)
    assert told["metrics"]["accuracy"] == pytest.approx(1 / 3)


def test_a_config_file_and_set_make_one_config(house: House, tmp_path: Path, perfit: Perfit) -> None:
    (tmp_path / "c.yaml").write_text("layers: [2]\nstage2: {epochs: 3, learning_rate: 1e-3}\nseed: 4\n")
    done = perfit(
        *house.train, "--run", tmp_path / "run", "--config", tmp_path / "c.yaml", "--set", "stage1.clip=inf",
        *("--set", "positions=-1", "--set", "stage2.epochs=2", "--users", "1"),
    )  # fmt: skip
    config = RunDirectory(tmp_path / "run").manifest()["config"]
    assert good(done).err.count("1 users trained") == 1
    assert (config["layers"], config["positions"], config["seed"]) == ([0, 1], "-1", 4)
    assert (config["stage2"]["epochs"], config["stage2"]["learning_rate"]) == (2, 1e-3)
    assert config["stage1"]["clip"] == float("inf")
    good(perfit("info", tmp_path / "run"))


def test_shortened_prompts_are_said_by_every_verb(house: House, tmp_path: Path, perfit: Perfit) -> None:
    long = "river " * 200
    line = {
        "user": "anna",
        "history": [{"text": long, "folder": "work"}],
        "queries": [{"input": "a " + long, "gold": "work"}],
    }
    (tmp_path / "long.jsonl").write_text(json.dumps(line))
    run = ("--run", tmp_path / "run")
    task = ("--task", house.task, "--base", house.base)
    trained = good(perfit("train", tmp_path / "long.jsonl", *task, *SETTINGS, "--set", "max_length=64", *run, "--json"))
    assert "2 shortened prompts" in trained.err
    assert "1 shortened prompts" in good(perfit("evaluate", tmp_path / "long.jsonl", *run, "--json")).err
    assert "1 shortened prompts" in good(perfit("generate", long, *run, "--json")).err
    assert "1 shortened prompts" in good(perfit("users", "add", "anna", "--data", tmp_path / "long.jsonl", *run)).err


def test_past_items_go_before_prompts_where_a_run_wants_them(house: House, perfit: Perfit, tmp_path: Path) -> None:
    run = tmp_path / "run"
    how = ("--set", "retrieved=2", "--set", "strength=0.5")
    good(perfit("train", house.data, "--task", house.task, "--base", house.base, *SETTINGS, *how, "--run", run))
    good(perfit("evaluate", house.data, "--run", run))
    refused = perfit("generate", "a lamp", "--user", "anna", "--run", run)
    assert refused.code == 2
    assert "--histories" in refused.err.splitlines()[-1]
    asked = perfit("generate", "a lamp", "--user", "anna", "--run", run, "--histories", house.data, "--json")
    (told,) = json.loads(good(asked).out)
    trained = PerFit.from_pretrained(run)
    anna = next(user for user in read_dataset(house.data).users if user.id == "anna")
    (answer,) = trained.generate(["a lamp"], ["anna"], askers=[anna])
    assert told["answer"] == answer.strip()
    known = trained.score_labels(["a lamp"], ["anna"], askers=[anna])
    unknown = trained.score_labels(["a lamp"], ["anna"], askers=[User("anna")])
    assert not torch.equal(known, unknown)
    both = trained.score_labels(["a lamp"] * 2, ["anna"] * 2, askers=[User("anna"), anna])
    torch.testing.assert_close(both, torch.cat([unknown, known]), rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match="askers: 2 given for 1"):
        trained.generate(["a lamp"], ["anna"], askers=[anna, anna])


def test_a_base_narrower_than_the_preset_s_ranks_trains_as_it_is(house: House, perfit: Perfit, tmp_path: Path) -> None:
    asked = ("train", house.data, "--task", house.task, "--base", house.base, "--run", tmp_path / "run")
    good(perfit(*asked, "--set", "max_length=96", "--set", "stage1.epochs=1", "--set", "stage2.epochs=1"))
    assert RunDirectory(tmp_path / "run").manifest()["config"]["collective_rank"] == 32


def test_generate_answers_as_an_evaluation_measures_it(house: House, perfit: Perfit, tmp_path: Path) -> None:
    good(perfit("evaluate", house.data, "--run", house.run, "--labels", "trie", "--memory", "--no-floors"))
    queries = [(user.id, query) for user in read_dataset(house.data).users for query in user.queries]
    lines = [json.dumps({"user": user, "input": query.input}) for user, query in queries]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    asked = ("generate", "--input", tmp_path / "in.jsonl", "--run", house.run, "--answers", "trie", "--json")
    for more, method in ((), "personal"), (("--memory", "--histories", house.data), "personal_memory"):
        told = [one["answer"] for one in json.loads(good(perfit(*asked, *more)).out)]
        path = house.run / "predictions" / f"{method}.jsonl"
        measured = [one["prediction"] for one in map(json.loads, path.read_text().splitlines()) if "user" in one]
        assert told == measured
    for wrong in (("--memory",), ("--max-new-tokens", "3"), ("--sample",)):
        refused = perfit(*asked, *wrong)
        assert refused.code == 2, refused.err


def test_who_was_erased_is_in_no_memory(own: House, perfit: Perfit, tmp_path: Path) -> None:
    good(perfit("users", "delete", "ben", "--run", own.run))
    without = [user for user in read_dataset(own.data).users if user.id != "ben"]
    write_jsonl(Dataset(tuple(without), read_dataset(own.data).others), tmp_path / "without.jsonl")
    asked = ("generate", "a lamp", "--user", "anna", "--run", own.run, "--answers", "trie", "--memory", "--json")
    seen: list[int] = []
    fit = Memory.fit

    def counted(data: Dataset, task: Any) -> Memory:
        seen.append(len(data.users))
        return fit(data, task)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Memory, "fit", counted)
        told = [good(perfit(*asked, "--histories", path)).out for path in (own.data, tmp_path / "without.jsonl")]
    assert seen == [1, 1]
    assert told[0] == told[1]


def test_stop_strings_end_answers_on_the_command_line_and_in_the_task(
    house: House, perfit: Perfit, tmp_path: Path
) -> None:
    asked = ("generate", "a lamp", "--user", "anna", "--user", "ben", "--run", house.run, "--json")

    def told(*more: str) -> list[str]:
        return [one["answer"] for one in json.loads(good(perfit(*asked, *more)).out)]

    whole = told()
    stop = next(sign for sign in whole[0][1:] if not sign.isspace())
    cut = [until_stop(text, (stop,)).strip() for text in whole]
    assert told("--stop", stop) == told("--stop", "never said", "--stop", stop) == cut != whole
    refused = perfit(*asked, "--stop", "")
    assert (refused.code, "stop[0]: '' is empty" in refused.err) == (2, True)
    refused = perfit(*asked, "--stop", "x", "--answers", "trie")
    assert (refused.code, "leave --stop out" in refused.err) == (2, True)
    again = told("--repetition-penalty", "0.01")
    assert again not in (whole, told("--repetition-penalty", "0.01", "--no-repeat-ngram", "1"))
    assert told("--repetition-penalty", "1", "--no-repeat-ngram", "0") == whole
    refused = perfit(*asked, "--no-repeat-ngram", "-2")
    assert (refused.code, "no_repeat_ngram: -2 is not possible" in refused.err) == (2, True)
    refused = perfit(*asked, "--repetition-penalty", "2", "--answers", "trie")
    assert (refused.code, "leave --repetition-penalty out" in refused.err) == (2, True)

    record = {**json.loads(house.task.read_text()), "kind": "text", "stop": [stop]}
    del record["labels"]
    (tmp_path / "task.yaml").write_text(json.dumps(record))
    train = (
        "train",
        house.data,
        "--task",
        tmp_path / "task.yaml",
        "--base",
        house.base,
        *SETTINGS,
        "--run",
        tmp_path / "run",
    )
    good(perfit(*train))
    good(perfit("evaluate", house.data, "--run", tmp_path / "run", "--methods", "personal"))
    lines = (tmp_path / "run" / "predictions" / "personal.jsonl").read_text().splitlines()
    said = [json.loads(line)["prediction"] for line in lines if "prediction" in json.loads(line)]
    assert said
    assert not any(stop in one for one in said)
    refused = perfit("evaluate", house.data, "--run", house.run, "--task", tmp_path / "task.yaml")
    assert "they differ in kind, labels, metric, stop" in refused.err or "stop" in refused.err
    bare = tmp_path / "bare.yaml"
    bare.write_text(json.dumps({name: value for name, value in record.items() if name != "stop"}))
    refused = perfit("evaluate", house.data, "--run", tmp_path / "run", "--task", bare)
    assert "they differ in stop" in refused.err


def test_all_new_users_of_a_file_come_at_once(own: House, tmp_path: Path, perfit: Perfit) -> None:
    add = ("users", "add", "--run", own.run, "--data", tmp_path / "new.jsonl")
    before = payloads(own.run)
    write_jsonl(dataset(("anna", "dora", "emil")), tmp_path / "new.jsonl")
    done = good(perfit(*add))
    assert "2 users trained, 0 skipped, 1 known and left as they are (--refresh trains them again)" in done.out
    after = payloads(own.run)
    assert after.keys() == {"anna", "ben", "dora", "emil"}
    assert before.items() <= after.items()
    told = json.loads(good(perfit(*add, "--json")).out)
    assert told == {"run": str(own.run), "trained": 0, "skipped": [], "known": 3}
    assert payloads(own.run) == after

    people = dataset(("anna", "dora", "emil"), history=9)
    write_jsonl(Dataset((*people.users, User("hollow"))), tmp_path / "new.jsonl")
    told = json.loads(good(perfit(*add, "--refresh", "--json")).out)
    assert (told["trained"], told["known"], [one["user"] for one in told["skipped"]]) == (3, 0, ["hollow"])
    assert "empty history" in told["skipped"][0]["problem"]
    refreshed = payloads(own.run)
    assert refreshed["ben"] == after["ben"]
    assert all(refreshed[name] != after[name] for name in ("anna", "dora", "emil"))
    refused = perfit(*add, "anna", "--refresh")
    assert (refused.code, len(refused.err.splitlines())) == (2, 1)
    assert "--refresh: a user who is named is trained again anyway" in refused.err


def test_with_nobody_new_no_base_is_loaded(own: House, perfit: Perfit, monkeypatch: pytest.MonkeyPatch) -> None:
    from perfit import opening

    monkeypatch.setattr(opening, "load_base", None)
    shown = good(perfit("users", "add", "--run", own.run, "--data", own.data)).out
    assert "0 users trained, 0 skipped, 2 known" in shown
