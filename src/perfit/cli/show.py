"""What the command line shows while it works: progress on stderr, tables and JSON on stdout."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from perfit.events import (
    Event,
    Finished,
    MemoryUsed,
    PhaseEnded,
    Planned,
    Prepared,
    Resumed,
    Skipped,
    StageBegun,
    Stepped,
    Warned,
)
from perfit.events.notices import notice
from perfit.shown import shown

_LINE_SECONDS = 20.0
_LONGEST_LINE = 100_000
# What JSON leaves as it is and a terminal obeys: C1 controls, line separators, marks of direction.
_INVISIBLE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class _Bar:
    """One bar on a terminal; a line now and then where stderr is a file."""

    def __init__(self, title: str, total: int, unit: str, console: Console):
        self.title, self.total, self.unit, self.console = one_line(title), total, unit, console
        self.count, self.prepared = 0, 0
        self.before = 0  # counted, but not done here: no part of the rate
        self.began = self.said = time.monotonic()
        self.progress: Progress | None = None
        self.task: TaskID | None = None
        if console.is_terminal:
            self.progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}", markup=False),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=console,
                transient=False,
            )
            self.task = self.progress.add_task(self.title, total=total or None, rate="", note="")
            self.progress.start()

    def advance(self, count: int, note: str = "") -> None:
        if self.count == self.before:
            # Preparation is over; the rate and the time left are those of what is counted.
            self.began = time.monotonic() if self.prepared else self.began
        self.count += count
        elapsed = time.monotonic() - self.began
        here = self.count - self.before
        rate = f"{here / elapsed:.1f} {self.unit}/s" if here and elapsed > 1 else ""
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, advance=count, rate=rate, note=note)
        elif time.monotonic() - self.said > _LINE_SECONDS:
            left = max(self.total - self.count, 0) * elapsed / max(here, 1)
            known = f", {rate}" if rate else ""
            known += f", {left:.0f} s left" if rate and self.total else ""
            of = f"/{self.total}" if self.total else ""
            text = f"{self.title}: {self.count}{of} {self.unit}{known}"
            self.console.print(one_line(f"{text}  {note}" if note else text))
            self.said = time.monotonic()

    def skip(self, count: int) -> None:
        """Count what an earlier command did; rate and time left are those of what is done from here on."""
        if self.count == self.before:
            self.began = time.monotonic()
        self.count += count
        self.before += count
        if self.progress is not None and self.task is not None:
            # An update would take the jump for speed.
            self.progress.reset(self.task, completed=self.count)

    def expect(self, total: int) -> None:
        """Take on a total that was not known at first."""
        self.total = total
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, total=total)

    def prepare(self, rows: int) -> None:
        self.prepared += rows
        if self.count == self.before:
            note = f"computing the frozen part: {self.prepared} {self.unit}"
            if self.progress is not None and self.task is not None:
                self.progress.update(self.task, note=note)
            elif time.monotonic() - self.said > _LINE_SECONDS:
                self.console.print(one_line(f"{self.title}: {note}"))
                self.said = time.monotonic()

    def close(self) -> None:
        if self.progress is not None:
            self.progress.stop()


class Screen:
    """Shows the events of training and evaluation.

    Args:
        quiet: Show nothing but warnings.
        verbose: Show what the engine measured and chose, and its peak of memory.
    """

    def __init__(self, quiet: bool = False, verbose: bool = False):
        self.console = Lines(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
        self.quiet, self.verbose = quiet, verbose
        self.bar: _Bar | None = None
        self.finished = 0
        self.users = 0
        self.said: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, Warned | Skipped):
            self._line(notice(event))
        elif isinstance(event, Resumed):
            self._line(f"resumed: {event.taken} learners were begun, {event.learners} are under way")
        if self.quiet:
            return
        match event:
            case StageBegun():
                self._close()
                self.finished, self.users = 0, event.users or 0
                who = "the collective shift" if event.stage == 1 else f"{self.users} users"
                self.bar = _Bar(f"stage {event.stage}: {who}", event.rows_total, "items", self.console)
            case Stepped() if self.bar is not None:
                who = f" users done {self.finished}/{self.users}" if self.users else ""
                self.bar.advance(event.rows, f"loss {event.loss:.3f}{who}")
            case Prepared() if self.bar is not None:
                self.bar.prepare(event.rows)
            case Finished():
                self.finished += 1
            case Resumed() if self.bar is not None:
                self.bar.skip(event.rows_done)
                self.finished = event.taken - event.learners
            case Planned() if self.verbose and event.text not in self.said:  # both stages plan, mostly alike
                self._line(event.text)
                self.said.add(event.text)
            case MemoryUsed():
                self._close()
                if self.verbose:
                    self._line(f"peak memory {event.peak / 2**30:.2f} GiB of {event.budget / 2**30:.1f}")
            case PhaseEnded():
                self._close()
                self._line(f"{event.phase}: {event.seconds:.1f} s")

    @contextmanager
    def counting(self, title: str, total: int, unit: str) -> Iterator[Any]:
        """A bar for anything else that takes long; yields its ``advance``."""
        if self.quiet:
            yield lambda count, note="": None
            return
        self._close()
        self.bar = _Bar(title, total, unit, self.console)
        try:
            yield self.bar.advance
        finally:
            self._close()

    def already(self, count: int) -> None:
        """Count what was done before; it is no part of the rate."""
        if self.bar is not None:
            self.bar.skip(count)

    def expect(self, total: int) -> None:
        """The total of what is counted, where it is not known at first."""
        if self.bar is not None:
            self.bar.expect(total)

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def say(self, text: str) -> None:
        """One line on stderr, unless the screen is quiet."""
        if not self.quiet:
            self._line(text)

    def _line(self, text: str) -> None:
        self.console.print(one_line(text))

    def close(self) -> None:
        """End whatever is shown."""
        self._close()


class Lines(Console):
    """A console whose closed pipe is the caller's to hear of; rich would end the process itself."""

    def on_broken_pipe(self) -> None:
        raise


def one_line(text: object) -> str:
    """A whole line to print: what a text from outside holds can neither end it nor move or hide other text."""
    return shown(text, _LONGEST_LINE)


def say(text: object = "") -> None:
    """Print one line on stdout."""
    print(one_line(text))


def say_pieces(pieces: Iterable[str]) -> None:
    """Print one line on stdout that comes in pieces, each as it comes."""
    for piece in pieces:
        print(one_line(piece), end="", flush=True)
    print()


def table(header: Sequence[str], rows: Sequence[Sequence[str]], title: str = "", apart: bool = False) -> None:
    """Print a table whose columns line up, numbers to the right; ``apart`` begins with an empty line."""
    if apart:
        say()
    grid = Table(
        title=Text(one_line(title)) if title else None,
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for index, name in enumerate(header):
        grid.add_column(
            Text(one_line(name)), justify="left" if index == 0 else "right", overflow="fold", no_wrap=index > 0
        )
    for row in rows:
        grid.add_row(*(Text(one_line(cell)) for cell in row))
    print_grid(grid)


def show_facts(facts: Mapping[str, Any]) -> None:
    """Print named values, one a line; JSON has the same names."""
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        inner = isinstance(value, dict)
        flat |= {f"{name}: {part}": one for part, one in value.items()} if inner else {name: value}
    texts = {name: "; ".join(value) if _is_texts(value) else str(value) for name, value in flat.items()}
    table(["what", "value"], [[name.replace("_", " "), value] for name, value in texts.items()])


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def print_grid(grid: Table) -> None:
    """Print a table of rich's on stdout: as wide as it is in a file, folded on a console that is narrower."""
    console = Lines(highlight=False, markup=False, emoji=False)
    whole = Measurement.get(console, console.options.update(max_width=_LONGEST_LINE), grid).maximum
    if not sys.stdout.isatty():
        console.width = max(whole, 1)
    elif whole > console.width:
        for column in grid.columns:
            column.no_wrap = False  # rich would cut what may not wrap
    console.print(grid)


def no_loading_bars() -> None:
    """Switch off transformers' bars of reading weights; those of downloads stay."""
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging

    logging.disable_progress_bar()
    enable_progress_bars()


def as_json(content: Any) -> None:
    """Print JSON on stdout: valid in any encoding of it, and safe to look at on a terminal."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    encoding = sys.stdout.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = json.dumps(content, indent=2)
    sys.stdout.write(_INVISIBLE.sub(lambda found: json.dumps(found[0])[1:-1], text) + "\n")
