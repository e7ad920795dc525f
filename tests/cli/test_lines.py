"""What is printed of ids, names and answers from outside: one line each, escaped, never obeyed as markup."""

from __future__ import annotations

import ast
import io
import json
import sys
from pathlib import Path

import pytest
from command_line import House, Perfit, furnish

from perfit.cli import show
from perfit.cli.show import Screen, as_json, say, table
from perfit.events import Skipped, Warned, print_notices

CLI = Path(show.__file__).parent
EVIL = "zoe\n12 users trained\x1b[2J\x1b]0;title\x07\x9b31m\u202emoc.evil\u2028[red]"
SAFE = r"zoe\n12 users trained\x1b[2J\x1b]0;title\x07\x9b31m\u202emoc.evil\u2028[red]"


def test_every_line_of_the_command_line_goes_through_one_room() -> None:
    for path in CLI.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        names = {f.id if isinstance(f, ast.Name) else f.attr for f in called if isinstance(f, ast.Name | ast.Attribute)}
        if path.name not in ("show.py", "ending.py"):
            assert not names & {"print", "echo", "write", "Console"}, path


def test_a_line_a_table_and_an_event_escape_what_comes_from_outside(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"user {EVIL}")
    table(["user", EVIL], [[EVIL, "1"]], title=EVIL)
    screen = Screen()
    screen(Skipped(EVIL, EVIL))
    screen(Warned(EVIL))
    told = capsys.readouterr()
    assert told.out.splitlines()[0] == f"user {SAFE}"
    assert told.out.count(SAFE) == 4
    assert len(told.out.splitlines()) == 4
    assert told.err.splitlines() == [f"skipped user {SAFE}: {SAFE}", SAFE]
    assert not set(told.out + told.err) & set("\x1b\x07\x9b\u202e\u2028")


def test_notices_of_the_library_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    print_notices(Skipped(EVIL, "why"))
    print_notices(Warned(EVIL))
    assert capsys.readouterr().err.splitlines() == [f"perfit: skipped user {SAFE}: why", f"perfit: {SAFE}"]


@pytest.mark.parametrize("terminal", [True, False])
def test_markup_in_a_bar_is_no_markup(terminal: bool) -> None:
    out = io.StringIO()
    screen = Screen()
    screen.console = show.Lines(file=out, force_terminal=terminal, width=200, markup=False, color_system=None)
    with screen.counting("[red]title[/red]\n", 2, "items") as advance:
        advance(1, "[bold]note[/bold]")
    if terminal:
        assert "[red]title[/red]\\n" in out.getvalue()
        assert "[bold]note[/bold]" in out.getvalue()


@pytest.mark.parametrize("more", ["", "\udc80"])  # half a pair is what no encoding can say
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii"])
def test_json_is_json_in_every_encoding_and_hides_nothing(
    encoding: str, more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding, errors="backslashreplace", newline="")
    monkeypatch.setattr(sys, "stdout", stream)
    content = {"user": [EVIL, "名前🙂é", more, "\\x9b \\u202e"]}
    as_json(content)
    stream.flush()
    text = written.getvalue().decode(encoding)
    assert json.loads(text) == content
    assert not set(text) & set("\x1b\x07\x9b\u202e\u2028")
    assert ("🙂" in text) == (encoding == "utf-8" and not more)


def test_a_wide_table_is_whole_in_a_file_and_a_narrow_console_loses_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    header, cells = ["user", *"abcdef"], ["u" * 300, *("1" * 30 + name for name in "abcdef")]
    table(header, [cells])
    line = capsys.readouterr().out.splitlines()[1]
    assert all(cell in line for cell in cells)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    table(["user", "a"], [["u" * 30, "xyz" * 14]])
    shown = capsys.readouterr().out
    assert (shown.count("u"), sum(map(shown.count, "xyz"))) == (31, 42)


def test_an_evil_id_goes_through_every_verb_as_one_line(base: Path, tmp_path: Path, perfit: Perfit) -> None:
    evil = EVIL.replace("\u2028", "")
    safe = SAFE.replace(r"\u2028", "")
    house: House = furnish(tmp_path, base, evil, "anna")
    run = ("--run", house.run)
    capture = [
        perfit("users", "list", *run),
        perfit("users", "show", *run, evil),
        perfit("generate", "a lamp", "--user", evil, *run),
        perfit("users", "export", evil, tmp_path / "e", *run),
        perfit("users", "delete", evil, *run),
        perfit("users", "import", tmp_path / "e", *run),
        perfit("users", "show", *run, evil + "x"),
        perfit("generate", "a lamp", "--user", evil + "x", *run),
    ]
    for done in capture:
        assert not set(done.out + done.err) & set("\x1b\x07\x9b\u202e\u2028")
        assert "Traceback" not in done.err
    assert [done.code for done in capture] == [0] * 6 + [1] * 2
    assert capture[0].out.splitlines() == ["anna", safe]
    assert all(safe in done.out for done in capture[:6])
    assert all(len(done.err.splitlines()) == 1 for done in capture[6:])
