"""Labels scored through a whole PerFit, against plain forwards of prompt and label as training encodes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_base import CONFIG, LABELS, TASK, dataset, write_base

from perfit.data.schema import Query, User
from perfit.edits.edit_plan import EditPlan
from perfit.edits.positions import Positions
from perfit.errors import ConfigError, DataError, UnknownUserError
from perfit.evaluation.evaluate import evaluate
from perfit.evaluation.nll import nll_of_labels, nll_of_tokens
from perfit.inference.decoding import Decoding
from perfit.personalizer import PerFit
from perfit.run import RunDirectory
from perfit.tasks import get_task
from perfit.tasks.label_scores import answers_from
from perfit.training.examples import RowMaker

DATA = dataset()
ASKED = [(query, owner) for user in DATA.users for query in user.queries for owner in (user.id, "base", "collective")]
QUERIES, OWNERS = [query for query, _ in ASKED], [owner for _, owner in ASKED]


@pytest.fixture(scope="module")
def perfit(tmp_path_factory: pytest.TempPathFactory) -> PerFit:
    trained = PerFit.from_pretrained(write_base(tmp_path_factory.mktemp("base")), CONFIG, task=TASK)
    trained.fit(DATA)
    return trained


def by_hand(perfit: PerFit, query: Query, owner: str, label: str) -> float:
    """Log-probability of one label as the training row of an answered query, in one plain forward."""
    maker = RowMaker(TASK, perfit.backbone.tokenizer, CONFIG)
    row = maker._row(TASK.query_example(Query(query.id, query.input, label)))
    shift, slots = perfit.owners.rows_of([owner], perfit.backbone, perfit.config.layers)
    plan = EditPlan.for_prompts(Positions.parse(CONFIG.positions), [len(row.prompt_ids)], slots)
    ids = torch.tensor([row.input_ids])
    with torch.no_grad():
        logits = perfit.backbone.logits(ids, torch.ones_like(ids), plan, shift)[0, len(row.prompt_ids) - 1 :]
    return float(sum(logits.double().log_softmax(-1)[step, token] for step, token in enumerate(row.answer_ids)))


def test_every_owners_labels_have_the_probability_of_their_training_row(perfit: PerFit) -> None:
    found = perfit.score_labels(QUERIES, OWNERS)
    wanted = torch.tensor([[by_hand(perfit, query, owner, label) for label in LABELS] for query, owner in ASKED])
    assert found.shape == (len(ASKED), len(LABELS))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    base, own = found[OWNERS.index("base")], found[0]
    assert not torch.allclose(base, own, atol=1e-2)  # edits arrive


def test_a_known_answer_has_the_probability_of_its_training_row_whoever_is_asked(perfit: PerFit) -> None:
    found = perfit.score_answers(QUERIES, OWNERS)
    wanted = [by_hand(perfit, query, owner, query.gold or "") for query, owner in ASKED]
    assert [one.log_prob for one in found] == pytest.approx(wanted, rel=1e-4, abs=1e-4)
    tokens = [
        len(RowMaker(TASK, perfit.backbone.tokenizer, CONFIG).query_rows(User("", (), (query,)))[0].answer_ids)
        for query in QUERIES
    ]
    assert [one.tokens for one in found] == tokens
    with pytest.raises(DataError, match="query open: the query has no known answer"):
        perfit.score_answers([Query("open", "x")], ["base"])
    with pytest.raises(UnknownUserError):
        perfit.score_answers(QUERIES[:1], ["nobody"])


def test_nll_among_labels_is_of_probabilities_that_sum_to_1(perfit: PerFit) -> None:
    owners = {"base": lambda user: "base", "personal": lambda user: user}
    asked = [(query, user.id) for user in DATA.users for query in user.queries]
    scores = {
        method: perfit.score_labels([query for query, _ in asked], [owner(user) for _, user in asked])
        for method, owner in owners.items()
    }
    found = nll_of_labels(TASK, DATA.users, scores, compared=("personal", "base"))
    assert found.unit == "label"
    for method, owner in owners.items():
        for user in DATA.users:
            total = 0.0
            for query in user.queries:
                scores = [by_hand(perfit, query, owner(user.id), label) for label in LABELS]
                total -= scores[LABELS.index(query.gold or "")] - float(torch.tensor(scores).logsumexp(0))
            assert (found.users[method][user.id].total, found.users[method][user.id].tokens) == (
                pytest.approx(total, rel=1e-4, abs=1e-4),
                len(user.queries),
            )
    gain = found.gain()
    assert gain is not None
    assert gain.value == pytest.approx(found.mean("base") - found.mean("personal"))


def test_nll_per_token_is_summed_by_method_and_user(perfit: PerFit) -> None:
    owners = {"collective": lambda user: "collective", "personal": lambda user: user}
    found = nll_of_tokens(perfit, DATA.users, owners)
    assert found.gain() is None
    for method, owner in owners.items():
        for user in DATA.users:
            alone = perfit.score_answers(user.queries, [owner(user.id)] * len(user.queries))
            own = found.users[method][user.id]
            assert own.total == pytest.approx(-sum(one.log_prob for one in alone), rel=1e-4)
            assert own.tokens == sum(one.tokens for one in alone)


def test_the_best_label_is_the_answer(perfit: PerFit) -> None:
    scores = perfit.score_labels(QUERIES, OWNERS)
    quick = perfit.score_labels(QUERIES, OWNERS, best_only=True)
    assert answers_from(quick, TASK, "trie") == [LABELS[int(i)] for i in scores.argmax(1)]


def test_evaluation_by_labels_has_no_format_failures_and_says_what_it_is(perfit: PerFit, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    counted: list[int] = []
    found = evaluate(perfit, DATA.users, answers="trie", run=run, done=lambda method, rows: counted.append(rows))
    assert all(result.scores.format_failure_rate == 0 for result in found.methods.values())
    assert json.loads((tmp_path / "metrics.json").read_text())["answers"] == "trie"
    assert "highest probability" in (tmp_path / "metrics.md").read_text()
    assert sum(counted) == 3 * sum(len(user.queries) for user in DATA.users)  # NLL comes with the answers
    own = [(query, user.id) for user in DATA.users for query in user.queries]
    scores = perfit.score_labels([query for query, _ in own], [owner for _, owner in own])
    expected = answers_from(scores, TASK, "trie")
    assert list(found.methods["personal"].predictions.values()) == expected


def test_what_cannot_be_scored_is_refused(perfit: PerFit) -> None:
    assert perfit.score_labels([], []).shape == (0, len(LABELS))
    with pytest.raises(ConfigError, match="1 given for 2 prompts"):
        perfit.score_labels(["a", "b"], ["base"])
    with pytest.raises(UnknownUserError):
        perfit.score_labels(["a"], ["nobody"])
    with pytest.raises(ConfigError, match="'best' is not possible; choose from free, trie"):
        evaluate(perfit, DATA.users, answers="best")
    with pytest.raises(ConfigError, match="does not go with sampling"):
        evaluate(perfit, DATA.users, answers="trie", decoding=Decoding(sample=True))
    titles = PerFit(perfit.backbone, get_task("scholarly_title"), CONFIG, perfit.identity)
    with pytest.raises(ConfigError, match="'scholarly_title' has none"):
        titles.score_labels(["a"], ["base"])
    with pytest.raises(ConfigError, match="'scholarly_title' has none"):
        evaluate(titles, DATA.users, answers="trie", methods=["base"])
