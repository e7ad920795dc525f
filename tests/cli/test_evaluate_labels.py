"""``perfit evaluate --labels``."""

from __future__ import annotations

import json

from command_line import House, Perfit


def test_labels_are_chosen_by_probability(house: House, perfit: Perfit) -> None:
    shown = perfit("evaluate", house.data, "--run", house.run, "--labels", "trie", "--json")
    assert shown.code == 0, shown.err
    told = json.loads(shown.out)
    assert told["answers"] == "trie"
    assert all(method["format_failure_rate"] == 0 for method in told["methods"].values())


def test_other_ways_of_answering_are_refused_in_one_line(house: House, perfit: Perfit) -> None:
    for more, said in (
        (("--labels", "best"), "'best' is not possible"),
        (("--labels", "trie", "--sample"), "sampling"),
    ):
        refused = perfit("evaluate", house.data, "--run", house.run, *more)
        assert refused.code == 2
        assert said in refused.err.splitlines()[-1]


def test_a_memory_stands_beside_the_personal_shift(house: House, perfit: Perfit) -> None:
    shown = perfit("evaluate", house.data, "--run", house.run, "--labels", "trie", "--memory", "--no-nll")
    assert shown.code == 0, shown.err
    assert "personal_memory" in shown.out
    assert "; personal_memory is" in shown.out
    assert "; personal is" in shown.out
    refused = perfit("evaluate", house.data, "--run", house.run, "--memory", "--methods", "collective")
    assert refused.code == 2
    assert "ask for the method 'personal' too" in refused.err


def test_whom_the_memory_harms_is_said(house: House, perfit: Perfit) -> None:
    shown = perfit("evaluate", house.data, "--run", house.run, "--labels", "trie", "--memory", "--json")
    assert shown.code == 0, shown.err
    told = json.loads(shown.out)
    assert told["memory_effect"]["harmed"]["users"] <= told["memory_effect"]["n_users"] == told["effect"]["n_users"]
    assert told["memory_effect"]["with_nll"]
    assert {"personal", "personal_memory"} <= told["nll"]["methods"].keys()
    assert told["nll"]["methods"]["personal_memory"] != told["nll"]["methods"]["personal"]
    assert any(line.startswith("personal_memory against collective: helps") for line in told["summary"])
    free = json.loads(perfit("evaluate", house.data, "--run", house.run, "--memory", "--json").out)
    assert not free["memory_effect"]["with_nll"]
