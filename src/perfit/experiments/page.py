"""docs/reproduction.md from the files of results, and a result as a table of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perfit.experiments.claims import NOT_SEEN
from perfit.experiments.outcome import Outcome, OutcomeRow, Value, outcomes
from perfit.experiments.paper.registry import entries
from perfit.markdown import markdown, markdown_table

_HEAD = """# The paper's tables and figures, run again

Built from the files in `docs/reproduction/` by `perfit reproduce page`; a test fails where this page is not what they say. What is
here was run on small bases and parts of real data sets, as each heading says: it shows what the method does there, and whether the
paper's orders and claims are seen. It is no run of the paper's own size.

## How to run it

    perfit reproduce list --data D                  # what there is, what it needs, what is done, seconds to go
    perfit reproduce table4 --data D                # our numbers beside the paper's; repeat to go on after a stop
    perfit report runs/reproduce                    # one page of what is there so far, with the figures (extra report)
    perfit reproduce all --scale smoke              # all of it on made-up users and tiny bases, in about a minute of one core
    perfit reproduce all --scale paper --dry-run    # the paper's size without its weights: parameters, data, cost
    perfit reproduce all --scale paper --data D --device cuda --base llama-2-7b=PATH

D is a folder with a folder, or a `.jsonl`, a task: `movie_tagging`, `news_categorize`, `product_rating`, `news_headline`,
`scholarly_title`, `tweet_paraphrase`. `--tasks`, `--users`, `--queries`, `--history`, `--pool`, `--seeds` and `--trials` take a part,
`--set` changes a setting of all cells, `--answers sampled` draws answers as the paper does (the paper scale's way; else they are the
likeliest tokens), `--show` runs nothing and says what is there. `--base PATH` stands for all of the paper's
bases, `--base qwen2.5-7b=PATH` for one of them.

*Scales.* `smoke` has tiny random bases and says nothing of the method. `small` is SmolLM2-135M (in Table 13 and Figure 8 Gemma 3 270M
beside it) with the small preset's ranks, rates, layers and positions, and the paper's pool and full strength: stage 1 on the other
users' queries, strength 1. `paper` is Table 9's settings. The strength per user and the stage-1 pool of the practical preset stand as
rows of their own in every comparison.

*Cells.* One cell is one method, with options and a seed, on one base and one part of one task's data: a trial of `perfit compare`, in
`cells/` below `--out`. Its folder is named by a hash over base, data, part, task, settings and the version of the method: another of
these is another cell, and none is reused. Entries share cells, and cells of a folder share their stage 1. A version is raised when the
same settings come to give other numbers (`methods/registry.py`). A cell that is missing or failed is shown as missing, and a mean over
seeds needs all of them.

*Users.* No text and no id of a user is in a result; cells hold both, as comparisons do.

*General abilities.* Tables 17 and 18 train PerFit, and measure base, collective and personal shifts on a small set of tasks made here
(no hub; multiple choice, MCC, Pearson) and by how far they move the next token of neutral text. At the paper's scale
lm-evaluation-harness runs the paper's tasks (extra `abilities`); `perfit.experiments.abilities.harness.harness_scores` runs any.

## How to read it

*Ours* is the mean over seeds ± their standard deviation, with a 95 % interval over resampled users in brackets where there is one;
*paper* is what the paper prints, on another base and other data: compare orders, not sizes. Rows in italics are not the paper's. Missing
cells say so. Orders are compared by Kendall's tau. A claim is *seen* where every comparison it makes is clear of chance, *not seen* where
one is clearly the other way, and otherwise *cannot be told* with so many users; below ten users nothing is told. What in the paper is
ambiguous, and where each part of it is in the code, is in [paper_index.md](paper_index.md).
"""


def page(folder: Path) -> str:
    """The page of all outcomes below a folder of scales.

    Raises:
        StoreError: A file is no result.
    """
    parts = [_HEAD]
    found = [one for scale in ("small", "paper") for one in outcomes(folder / scale, entries())]
    parts += [_overview(found), _claims(found), _against(found)]
    parts += [section(one, f"reproduction/{one.scale}/") for one in found]
    return "\n".join(parts)


def _overview(found: Sequence[Outcome]) -> str:
    done = {one.entry: one for one in found}
    rows = []
    for name, entry in entries().items():
        one = done.get(name)
        cells = "not run" if one is None else f"{one.done} of {one.cells}"
        verdicts = [] if one is None else [claim["verdict"] for claim in one.claims]
        said = ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts))
        rows.append((name, markdown(entry.title), cells, said))
    table = markdown_table(("entry", "what", "cells", "claims"), rows, numbers=(2,), aligned=False)
    return "\n".join(["## What was run", "", *table, ""])


def _claims(found: Sequence[Outcome]) -> str:
    """Every claim that was held against numbers of ours, its verdict, and how many users stand behind it."""
    rows = [
        (markdown(claim["says"]), one.entry, str(claim["line"]), f"**{claim['verdict']}**", str(users))
        for one in found
        for users in [max(one.users.values(), default=0)]
        for claim in one.claims
    ]
    table = markdown_table(("claim", "of", "line", "verdict", "users"), rows, numbers=(2, 4), aligned=False)
    return "\n".join(["## The paper's claims", "", *table, ""])


def _against(found: Sequence[Outcome]) -> str:
    """What speaks against the paper: claims that are the other way here, and orders whose whole interval is reversed."""
    lines = []
    for one in found:
        for claim in one.claims:
            if claim["verdict"] == NOT_SEEN:
                why = "; ".join(detail for detail in claim["details"] if NOT_SEEN in detail)
                lines.append(f"- {one.entry}: {markdown(claim['says'])} (line {claim['line']}). {markdown(why)}")
        for order in one.orderings:
            if order["high"] is not None and order["high"] < 0:
                lines.append(f"- {one.entry}: the order of the rows in {order['column']}, {order_in_words(order)}")
    said = lines or ["Nothing is clear of chance."]
    return "\n".join(["## What contradicts the paper here", "", *said, ""])


def section(one: Outcome, figures: str = "") -> str:
    """One outcome as Markdown."""
    bases = ", ".join(f"{name}: {where}" for name, where in one.base.items())
    sizes = ", ".join(f"{task} {count} users, {one.queries.get(task, 0)} queries" for task, count in one.users.items())
    lines = [
        f"## {one.entry}: {one.title}",
        "",
        f"`{one.command}` ({one.scale}); {one.done} of {one.cells} cells, {one.seconds:.0f} s. {markdown(one.hardware)}.",
        f"Bases: {markdown(bases) or 'none'}. Data: {markdown(sizes) or 'none'}.",
        "",
        *_table(one),
        "",
    ]
    lines += [f"![{one.title}]({figures}{name})\n" for name in one.figures if name.endswith(".svg")]
    if one.orderings:
        lines += ["Order of the rows, Kendall's tau against the paper's (95 % interval over users):", ""]
        lines += [f"- {order['column']}: {order_in_words(order)}" for order in one.orderings] + [""]
    if one.claims:
        lines += ["Claims:", ""]
        for claim in one.claims:
            lines.append(f"- {markdown(claim['says'])} (line {claim['line']}): **{claim['verdict']}**")
            lines += [f"    - {markdown(detail)}" for detail in claim["details"][:4]]
            if len(claim["details"]) > 4:
                lines.append(f"    - and {len(claim['details']) - 4} more")
        lines.append("")
    if one.missing:
        lines += ["Missing:", "", *(f"- {count} cells: {markdown(why)}" for why, count in one.missing.items()), ""]
    if one.notes:
        lines += ["Notes:", "", *(f"- {markdown(note)}" for note in one.notes), ""]
    return "\n".join(lines)


def order_in_words(order: Mapping[str, Any]) -> str:
    """How well an order of rows agrees with the paper's."""
    if order["tau"] is None:
        return f"all of {order['rows']} rows are equal"
    low, high = order["low"], order["high"]
    interval = "" if low is None else f" ({low:+.2f} to {high:+.2f})"
    return f"{order['tau']:+.2f}{interval} over {order['rows']} rows"


def grid(one: Outcome) -> tuple[list[str], list[tuple[str, bool, list[str]]]]:
    """A result's table as texts: names of columns, and rows as label, whether it is not the paper's, and the other cells.

    Rows by columns, the paper's number before ours; a single row of many measures stands upright.
    """
    if len(one.rows) == 1:
        values = one.rows[0].values.items()
        return ["measure", "paper", "ours"], [(name, False, [_plain(v.printed), _ours(v)]) for name, v in values]
    columns = [name for name in one.columns if any(name in row.values for row in one.rows)]
    header = ["row", *(text for name in columns for text in (f"{name} paper", "ours"))]
    return header, [(row.label, row.extra, _cells(row, columns)) for row in one.rows]


def _cells(row: OutcomeRow, columns: Sequence[str]) -> list[str]:
    found = [row.values.get(name) for name in columns]
    return [text for value in found for text in (("", "") if value is None else (_plain(value.printed), _ours(value)))]


def _table(one: Outcome) -> list[str]:
    header, rows = grid(one)
    named = [(label if len(one.rows) == 1 else markdown(label), extra, cells) for label, extra, cells in rows]
    return markdown_table(
        header, [(f"*{said}*" if extra else said, *cells) for said, extra, cells in named], numbers=True, aligned=False
    )


def _plain(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if 0.0005 <= abs(value) < 10 and value != int(value) else f"{value:.4g}"


def _ours(value: Value) -> str:
    if value.mean is None:
        if not value.of:
            return ""
        return "missing" if value.of == 1 else f"missing, {value.seeds} of {value.of} seeds"
    spread = "" if value.std is None else f" ± {value.std:.3f}"
    interval = "" if value.low is None else f" [{value.low:.3f}, {value.high:.3f}]"
    return f"{_plain(value.mean) or '0'}{spread}{interval}"
