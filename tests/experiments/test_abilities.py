"""General abilities: continuations against a plain twin, scores of the local tasks, divergence, and the harness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from families import WIDTH, random_shift, tiny
from small_base import CONFIG, TASK, dataset, write_base

from perfit.edits.positions import Positions
from perfit.events import nobody
from perfit.experiments.abilities.divergence import divergences
from perfit.experiments.abilities.items import Item, LocalTask, local_tasks
from perfit.experiments.abilities.likelihood import continuations, next_tokens
from perfit.experiments.abilities.local import accuracy, local_scores, mcc, pearson
from perfit.inference.edited import Edited
from perfit.personalizer import PerFit
from perfit.pseudo_users import BASE


class Banks:
    """Owners "a" and "b", and the base, of random shifts."""

    def rows_of(self, users: Any, backbone: Any, layers: tuple[int, ...]) -> tuple[Any, list[tuple[int, int]]]:
        slots = {"base": (0, 0), "a": (1, 1), "b": (2, 3)}
        return random_shift(layers), [slots[user] for user in users]


@pytest.fixture(scope="module")
def edited() -> Edited:
    assert WIDTH == 32
    return Edited(tiny("llama"), Banks(), (1, 2), Positions.parse("f1+l2"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> PerFit:
    folder = tmp_path_factory.mktemp("abilities")
    perfit = PerFit.from_pretrained(write_base(folder / "base"), CONFIG, task=TASK)
    perfit.fit(dataset(), run=folder / "run", listener=nobody)
    return perfit


PAIRS = [([5, 6, 7, 8], [9, 10]), ([11], [12, 13, 14]), ([20, 21, 22, 23, 24, 25], [3])]


@pytest.mark.parametrize("owner", ["base", "a", "b"])
def test_a_continuation_is_as_probable_as_token_by_token_alone(edited: Edited, owner: str) -> None:
    from perfit.edits.edit_plan import EditPlan

    shift, slots = edited.owners.rows_of([owner], edited.backbone, edited.layers)
    for (context, said), (found, greedy) in zip(PAIRS, continuations(edited, owner, PAIRS), strict=True):
        wanted, likeliest = 0.0, True
        for number, token in enumerate(said):
            ids = torch.tensor([[*context, *said[:number]]])
            plan = EditPlan.for_prompts(edited.positions, [len(context)], slots)
            logits = edited.backbone.logits(ids, torch.ones_like(ids), plan, shift)[0, -1].log_softmax(-1)
            wanted += float(logits[token].detach())
            likeliest &= int(logits.argmax()) == token
        assert found == pytest.approx(wanted, abs=1e-4)
        assert greedy == likeliest


def test_owners_differ_and_the_base_is_nobody(edited: Edited) -> None:
    contexts = [context for context, _ in PAIRS]
    rows = {owner: next_tokens(edited, owner, contexts) for owner in ("base", "a", "b")}
    assert not torch.allclose(rows["base"], rows["a"])
    assert not torch.allclose(rows["a"], rows["b"])
    plain = edited.backbone.logits(torch.tensor([contexts[0]]), torch.ones(1, 4, dtype=torch.long))[0, -1]
    assert torch.allclose(rows["base"][0], plain.log_softmax(-1), atol=1e-5)


def test_divergence_is_nothing_for_the_base_and_something_for_users(trained: PerFit) -> None:
    found = divergences(trained.edited(), [BASE, "anna", "ben"])
    assert found[BASE] == 0
    assert found["anna"] > 0
    assert found["anna"] != found["ben"]


def test_local_tasks_are_scored_for_any_owner(trained: PerFit) -> None:
    scores = local_scores(trained.edited(), "anna")
    assert set(scores) == {"opposites", "capitals", "acceptable", "alike", "average"}
    assert all(-1 <= value <= 1 for value in scores.values())
    assert scores["average"] == pytest.approx(sum(scores[name] for name in local_tasks()) / 4)


def test_every_local_item_has_its_answer_among_its_choices_in_any_place() -> None:
    tasks = local_tasks()
    places = [int(item.gold) for item in tasks["capitals"].items]
    assert set(places) == {0, 1, 2, 3}
    first = tasks["capitals"].items[1]
    assert first.choices[int(first.gold)] == " Rome"
    assert all(len(set(item.choices)) == len(item.choices) for task in tasks.values() for item in task.items)


def test_metrics_are_scikit_learns_and_scipys() -> None:
    from scipy.stats import pearsonr
    from sklearn.metrics import matthews_corrcoef

    golds, values = [1.0, 0.0, 1.0, 1.0, 0.0], [0.3, -0.2, -0.9, 2.0, 0.1]
    items = [Item("", ("no", "yes"), gold) for gold in golds]
    scores = [[0.0, value] for value in values]
    said = [float(value > 0) for value in values]
    assert mcc(items, scores) == pytest.approx(matthews_corrcoef(golds, said))
    assert accuracy(items, scores) == pytest.approx(3 / 5)
    assert pearson(items, scores) == pytest.approx(pearsonr(golds, [-value for value in values]).statistic)
    assert mcc(items, [[0.0, 1.0]] * 5) == 0.0


@pytest.mark.filterwarnings("ignore")
def test_the_harness_asks_a_personal_model(trained: PerFit, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    import json

    from perfit.experiments.abilities.harness import harness_model, harness_scores

    items = local_tasks()["opposites"].items
    lines = [
        {"context": item.context, "choices": [c.strip() for c in item.choices], "gold": int(item.gold)}
        for item in items
    ]
    (tmp_path / "items.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    task = {
        "task": "opposites",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "items.jsonl")}, "cache_dir": str(tmp_path / "cache")},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{context}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{gold}}",
        "metric_list": [{"metric": "acc"}],
    }
    from perfit.pseudo_users import COLLECTIVE

    for owner in ("anna", BASE, COLLECTIVE):
        own = LocalTask(items, "accuracy")
        found = harness_scores(trained.edited(), owner, [task])
        assert found["opposites"] == pytest.approx(
            local_scores(trained.edited(), owner, {"opposites": own})["opposites"]
        )
    model = harness_model(trained.edited(), "anna")
    ask = type("Ask", (), {"args": ("Which folder? note: a boat", {"until": ["."], "max_gen_toks": 3})})
    assert isinstance(model.generate_until([ask()])[0], str)
    rolling = type("Ask", (), {"args": ("a boat on the river",)})
    assert model.loglikelihood_rolling([rolling()])[0] < 0
