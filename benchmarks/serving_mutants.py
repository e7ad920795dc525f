"""Do the quick tests see the faults that engines have had elsewhere? Each is written into a copy of the sources, one at a
time, and the tests run until the first that fails.

    python benchmarks/serving_mutants.py [--only NAME ...]
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tables import markdown

_ROOT = Path(__file__).parents[1]
_TESTS = [
    f"tests/serving/test_{name}.py"
    for name in ("bank", "batched", "prefixes", "loading", "served", "not_finite", "interleavings")
]
_KEYS, _BANK, _BATCHED, _PACKED = ("block_keys.py", "bank.py", "batched.py", "packed.py")
_NO_PLACES = (_KEYS, "inside = [place - begin for place in edits.positions[low:high]]", "inside: list[int] = []")
_BY_USER = [
    (
        _BATCHED,
        "needed.append((self._seconds, version))",
        "needed.append((self._seconds, (version.tenant, version.user)))",
    ),
    (_BATCHED, "loaded.own if key == loaded.version else", "loaded.own if key != loaded.version.collective else"),
]

# Name, and what is written instead of what, in which file of perfit.serving.
MUTANTS: dict[str, list[tuple[str, str, str]]] = {
    "token-only key": [_NO_PLACES],
    "user-only salt": [
        _NO_PLACES,
        (
            _KEYS,
            'self._hash(b"tenant", edits.tenant.encode())',
            'self._hash(b"", f"{edits.tenant} {edits.version}".encode())',
        ),
    ],
    "positions without their places": [(_KEYS, 'array("q", inside).tobytes())', 'b"")')],
    "skip-read-only": [
        _NO_PLACES,
        ("continuous.py", "if not self.shares:", "if not self.shares or self._edits[request].version:"),
    ],
    "tenant not in the key": [(_KEYS, "edits.tenant.encode()", 'b""')],
    "ignored soft reset": [
        (
            _BATCHED,
            "Piece(one.start, one.count, row.answer.edited, row.slots)",
            "Piece(one.start, one.count, _counted_again(self._pages, row.answer), row.slots)",
        ),
        (
            _BATCHED,
            "def edits_of(",
            "def _counted_again(pages, answer):\n"
            "    from perfit.edits.positions import Positions\n"
            "    scheduler, who = pages._processor.scheduler, answer.request.who\n"
            "    state = scheduler.active_requests[answer.request.id]\n"
            "    return () if who is None else Positions.parse(who.positions).of(len(state.initial_tokens))\n\n\n"
            "def edits_of(",
        ),
    ],
    "slot reuse without clear": [(_BANK, "            tensor[slot] = 0", "            pass")],
    "slot keeps its first shift": [
        (
            _BANK,
            "            self._write(resident.slot, shift)",
            "            if not self.bank.shift.R[resident.slot].any():\n                self._write(resident.slot, shift)",
        ),
        (_BANK, "            tensor[slot] = 0", "            pass"),
    ],
    "off-by-one: one too early": [(_PACKED, "position - piece.start for", "position - piece.start - 1 for")],
    "off-by-one: one too late": [(_PACKED, "position - piece.start for", "position - piece.start + 1 for")],
    "off-by-one: a piece's end": [(_PACKED, "if 0 <= place < piece.count", "if 0 <= place < piece.count - 1")],
    "off-by-one: a block's end": [(_KEYS, "(begin, begin + self.size)", "(begin, begin + self.size - 1)")],
    "wrong owner after update": _BY_USER,
    "version swap in mid-request": [
        *_BY_USER,
        (
            _BANK,
            "        resident.users += 1",
            "        if shift is not None:\n            self._write(resident.slot, shift)\n        resident.users += 1",
        ),
        (_BATCHED, "return all(key in bank for bank, key in self._needs(version))", "return False"),
    ],
    "a load goes to whoever waits": [
        ("served.py", "if one.answer.request.who != version or one.loaded is not None:", "if one.loaded is not None:")
    ],
    "tokens of the neighbour": [(_BATCHED, "return choose(logits, asked)", "return choose(logits.flip(0), asked)")],
    "a loaded shift is not held to its digest": [
        ("loading.py", "if shift_digest(stored.tensors) != version.personal:", "if False:")
    ],
    "pages stay when a user is forgotten": [(_BATCHED, "        self._pages.wipe()\n", "")],
    "an evicted slot in use": [(_BANK, "if not resident.users), None)", "), None)")],
}


def main() -> None:
    """Run the tests on each and print who was seen by what."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=[*MUTANTS], default=[*MUTANTS])
    chosen: list[str] = parser.parse_args().only
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ["none", *chosen]:
            begun = time.monotonic()
            seen = _seen(Path(folder) / "tree", MUTANTS.get(name, []))
            rows.append([name, "killed" if seen else "survived", seen or "", f"{time.monotonic() - begun:.0f}"])
            print(*rows[-1], file=sys.stderr, flush=True)
    print(markdown(["fault", "", "first seen by", "seconds"], rows))
    sys.exit(rows[0][1] == "killed" or any(row[1] == "survived" for row in rows[1:]))


def _seen(tree: Path, changes: list[tuple[str, str, str]]) -> str | None:
    """The first test that fails on a tree with these changes."""
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(_ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(_ROOT / "tests", tree / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(_ROOT / "pyproject.toml", tree)
    for file, old, new in changes:
        path = tree / "src" / "perfit" / "serving" / file
        text = path.read_text()
        if text.count(old) != 1:
            sys.exit(f"{file}: {old!r} stands there {text.count(old)} times; this benchmark must follow the sources")
        path.write_text(text.replace(old, new))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *_TESTS, "-k", "not a_fault_is_seen"],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    if run.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) \S*?(\w+)\.py(?:::(\w+))?", run.stdout, re.MULTILINE)
    if run.returncode != 1 or failed is None:
        sys.exit(run.stdout[-3000:] + run.stderr[-2000:])
    return f"{failed[1]}: {failed[2]}"


if __name__ == "__main__":
    main()
