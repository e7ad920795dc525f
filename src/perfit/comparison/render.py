"""The table as files: JSON and CSV with every number, Markdown and LaTeX to be read."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from perfit.comparison.sections import sections
from perfit.comparison.table import Row, Table
from perfit.durable.files import write_atomically
from perfit.markdown import markdown, markdown_table
from perfit.pages.section import Cell, Section
from perfit.shown import shown

_LONGEST = 4000
_FORMULA = ("=", "+", "-", "@")


def write_table(table: Table, folder: Path) -> None:
    """Write ``table.json``, ``table.csv``, ``table.md`` and ``table.tex``; each file is replaced as a whole."""
    for name, render in RENDERERS.items():
        write_atomically(folder / name, render(table).encode())


def as_json(table: Table) -> str:
    """Everything; numbers that are none (NaN) are null."""
    return json.dumps(_plain(table.as_dict()), indent=2, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_csv(table: Table) -> str:
    """One line per method, one column per number, nothing rounded."""
    rows = [_flat(row) for row in table.rows]
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(row: Row) -> dict[str, Any]:
    flat: dict[str, Any] = {
        "method": row.name,
        "label": row.label,
        "seeds": " ".join(map(str, row.seeds)),
        "problem": row.problem,
    }
    for metric, value in row.metrics.items():
        flat |= {metric: value.mean, f"{metric} std": value.std}
        if metric in row.intervals:
            flat |= dict(zip((f"{metric} low", f"{metric} high"), row.intervals[metric], strict=True))
    if row.costs is not None:
        for name, cost in row.costs.__dict__.items():
            if name.endswith("_seconds"):
                flat |= {name: cost.mean, f"{name} std": cost.std}
            else:
                flat[name] = cost
    flat["not_adapted"] = row.not_adapted
    for metric, difference in row.differences.items():
        # The score has an interval of its own.
        own = {"low": "gain low", "high": "gain high"}
        flat |= {f"{metric} {own.get(name, name)}": value for name, value in difference.as_dict().items()}
    if row.wins is not None:
        flat |= {"p_holm": row.p_holm, **{f"users {name}": count for name, count in row.wins.__dict__.items()}}
    if (effect := row.effect) is not None:
        flat |= {
            "effect against": effect.against,
            "answers_changed": effect.answers_changed,
            "helped": effect.helped,
            "left_alone": effect.left_alone,
            "harmed": effect.harmed.users,
            "harmed low": effect.harmed.low,
            "harmed high": effect.harmed.high,
            "worst_tenth": effect.worst_tenth,
            "told_from_noise": effect.noise.told,
            "users_needed": effect.noise.users_needed,
        }
    return {cell(name): cell(value) for name, value in flat.items()}


def cell(value: Any) -> Any:
    """A text as a CSV cell that no spreadsheet computes: one that begins like a formula gets a quote before it."""
    if not isinstance(value, str):
        return value
    text = shown(value, _LONGEST)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def as_markdown(table: Table) -> str:
    """Sections as Markdown tables: the best bold, the second best underlined."""
    return "\n".join(_markdown(section) for section in sections(table))


def _markdown(section: Section) -> str:
    def dress(cell: Cell) -> str:
        text = markdown(cell.text)
        return {1: f"**{text}**", 2: f"<u>{text}</u>"}.get(cell.place, text)

    header = [markdown(name) for name in section.header]
    lines = markdown_table(header, [[dress(cell) for cell in row] for row in section.rows], numbers=True)
    notes = [f"{markdown(note)}  " for note in section.notes]
    return "\n".join([f"**{markdown(section.title)}**", "", *lines, "", *notes]) + "\n"


_TEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": r"$<$",
    ">": r"$>$",
    "−": "$-$",
    "α": r"$\alpha$",
}


def as_latex(table: Table) -> str:
    """Sections as tables of the package booktabs: the best bold, the second best underlined."""
    return "% \\usepackage{booktabs}\n" + "\n".join(_latex(section) for section in sections(table))


def _latex(section: Section) -> str:
    def dress(cell: Cell) -> str:
        text = _tex(cell.text)
        return {1: rf"\textbf{{{text}}}", 2: rf"\underline{{{text}}}"}.get(cell.place, text)

    width = len(section.header)

    def line(row: Sequence[Cell]) -> str:
        return " & ".join(map(dress, row)) + r" \\"

    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\begin{{tabular}}{{l{'r' * (width - 1)}}}",
            r"\toprule",
            " & ".join(map(_tex, section.header)) + r" \\",
            r"\midrule",
            *map(line, section.rows),
            r"\bottomrule",
            r"\end{tabular}",
            rf"\caption{{{_tex(section.title)}. {_tex('. '.join(section.notes))}}}",
            r"\end{table}",
            "",
        ]
    )


def _tex(text: str) -> str:
    return "".join(_TEX.get(sign, sign) for sign in shown(text, _LONGEST))


RENDERERS: dict[str, Callable[[Table], str]] = {
    "table.json": as_json,
    "table.csv": as_csv,
    "table.md": as_markdown,
    "table.tex": as_latex,
}
