"""The page is one file that loads nothing, and a user's text cannot become part of the program."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import numpy as np
from made import deltas_of
from planted import USERS, direction, noise

from perfit.analysis.figures import figures
from perfit.analysis.page import write_page
from perfit.analysis.sections import sections, suggestion_lines
from perfit.analysis.subspace import basis
from perfit.analysis.tables import tables_of

TEST = deltas_of({0: {"history": noise(1)}, 1: {"history": noise(2) + direction()}})
POOL = deltas_of({0: {"history": noise(5)}, 1: {"history": noise(6)}}, group="stage1", variants=("history",))
HARMFUL = "</script><script>alert(1)</script><!-- & \u2028 é"


def data_of(path: Path) -> tuple[str, dict[str, object]]:
    page = path.read_text(encoding="utf-8")
    found = re.search(r"const data = (\{.*\});\n", page)
    assert found
    return page, json.loads(found[1])


def test_the_page_holds_everything_in_one_file(tmp_path: Path) -> None:
    tables = tables_of([TEST, POOL])
    write_page([TEST, POOL], tables, {("folders", "test"): {"user-0": [HARMFUL]}}, 1, tmp_path / "index.html")
    page, data = data_of(tmp_path / "index.html")
    assert data["layers"] == [0, 1]
    test, pool = data["sets"]  # type: ignore[misc]
    assert test["texts"][0] == [HARMFUL]
    assert test["texts"][1] == []
    np.testing.assert_allclose(test["points"]["1"], basis(TEST.delta(1)).coordinates[:, :2], atol=1e-4)
    assert sorted(user["order"] for user in test["around"]["0"]) == list(range(USERS))
    assert len(test["lines"]["auc"]) == 2
    assert pool["lines"]["auc"] == []
    assert page.count("alert(1)") == 1
    assert HARMFUL not in page
    # Two scripts of its own (plotly's and the page's) and none from elsewhere.
    assert len(re.findall(r"<script[ >]", page.split("<body>")[1])) == 1
    assert not re.search(
        r"<(script|link|img|iframe)[^>]+(src|href)=", page.split("<script>")[0] + page.split("<body>")[1]
    )
    assert "default-src 'none'" in page


def test_the_page_says_what_the_console_says(tmp_path: Path) -> None:
    tables = tables_of([TEST, POOL])
    write_page([TEST, POOL], tables, {}, 1, tmp_path / "index.html", figures([TEST, POOL], tables, 1))
    page = re.sub(r"<script>.*?</script>", "", (tmp_path / "index.html").read_text(encoding="utf-8"), flags=re.DOTALL)
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
    (suggested,) = suggestion_lines(tables)
    assert f"{suggested}." in text
    share = next(row["share"] for row in tables["collective"] if (row["group"], row["layer"]) == ("test", 1))
    assert f"folders: one direction holds {share:.0%} of what users' own texts do at layer 1" in text
    assert [one.title for one in sections(tables, 1) if one.title not in text] == []
    for cell in (cell for one in sections(tables, 1) for row in one.rows for cell in row):
        assert cell.text.strip() in text
    assert 'id="controls"' in page
    assert 'id="observations"' not in page, "the page has an interactive form of it"
