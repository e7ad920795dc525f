"""The rooms of src/perfit as rooms.toml declares them, and the imports between them as the files have them."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "perfit"
PICTURE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms: python tests/rooms.py --write -->", "<!-- end of rooms -->"


@dataclass(frozen=True)
class Floor:
    name: str
    rooms: Mapping[str, str]


@dataclass(frozen=True, order=True)
class Arrow:
    """One room imports another: at the "top" of a file, in a "function", or for the "types" alone."""

    source: str
    target: str
    kind: str

    def __str__(self) -> str:
        return f"{self.source} -> {self.target} ({self.kind})"


@dataclass(frozen=True)
class Rooms:
    floors: tuple[Floor, ...]
    exceptions: Mapping[Arrow, str]

    @property
    def order(self) -> list[str]:
        return [room for floor in self.floors for room in floor.rooms]

    def runs_back(self, arrow: Arrow) -> bool:
        order = self.order
        return order.index(arrow.target) > order.index(arrow.source)


def declared() -> Rooms:
    content = tomllib.loads((ROOT / "tests" / "rooms.toml").read_text(encoding="utf-8"))
    floors = tuple(Floor(floor["name"], floor["rooms"]) for floor in content["floor"])
    known = {Arrow(e["from"], e["to"], e["kind"]): e["why"] for e in content.get("exception", [])}
    return Rooms(floors, known)


def room_of(path: Path, source: Path = SOURCE) -> str:
    """The package right below perfit, or the top-level module."""
    return path.relative_to(source).with_suffix("").parts[0]


def rooms_on_disk(source: Path = SOURCE) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    for path in sorted(source.rglob("*.py")):
        files.setdefault(room_of(path, source), []).append(path)
    return files


def arrows(source: Path = SOURCE) -> dict[Arrow, set[str]]:
    """Every import of one room by another, and the files that have it."""
    found: dict[Arrow, set[str]] = {}
    for room, files in rooms_on_disk(source).items():
        for path in files:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for name, kind in _imports(tree, "top", path.relative_to(source.parent).parts[:-1]):
                target = [*name.split("."), "__init__"][1]
                if target != room:
                    found.setdefault(Arrow(room, target, kind), set()).add(path.relative_to(source).as_posix())
    return found


def module_arrows(source: Path = SOURCE) -> set[Arrow]:
    """Every import of one module by another that runs when the file does: of a package, what its ``__init__`` has too."""
    files = {".".join(path.relative_to(source.parent).with_suffix("").parts): path for path in source.rglob("*.py")}
    modules = {name.removesuffix(".__init__"): path for name, path in files.items()}
    found = set()
    for module, path in modules.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for name, kind in _imports(tree, "top", path.relative_to(source.parent).parts[:-1]):
            parts = name.split(".")
            targets = [".".join(parts[:length]) for length in range(2, len(parts) + 1)]
            known = [target for target in targets if target in modules and not module.startswith(f"{target}.")]
            if kind == "top":
                found |= {Arrow(module, target, kind) for target in known if target != module}
    return found


def _imports(node: ast.AST, kind: str, package: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for child in ast.iter_child_nodes(node):
        inner = "function" if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) else kind
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for part in child.body:
                yield from _imports(ast.Module([part], []), "types", package)
            for part in child.orelse:
                yield from _imports(ast.Module([part], []), kind, package)
            continue
        for name in _modules(child, package):
            if name == "perfit" or name.startswith("perfit."):
                yield name, kind
        yield from _imports(child, inner, package)


def _modules(node: ast.AST, package: tuple[str, ...]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = [*package[: len(package) - node.level + 1]] if node.level else []
    module = ".".join([*base, *([node.module] if node.module else [])])
    return [f"{module}.{alias.name}" for alias in node.names]


def circles(found: Mapping[Arrow, object]) -> list[list[str]]:
    """Rooms that can be reached from themselves, by whom they share the way with."""
    onward: dict[str, set[str]] = {}
    for arrow in found:
        onward.setdefault(arrow.source, set()).add(arrow.target)
    reach = {room: _reach(room, onward) for room in onward}
    groups = {frozenset(o for o in reach[room] if room in reach.get(o, ())) for room in reach if room in reach[room]}
    return sorted(sorted(group) for group in groups)


def _reach(room: str, onward: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    ahead = [room]
    while ahead:
        for target in onward.get(ahead.pop(), ()):
            if target not in seen:
                seen.add(target)
                ahead.append(target)
    return seen


def table(rooms: Rooms) -> list[str]:
    """The table of docs/architecture.md."""
    lines = ["| floor, and what it may import | room | lines | what it holds |", "| --- | --- | ---: | --- |"]
    files = rooms_on_disk()
    for number, floor in enumerate(rooms.floors, 1):
        below = "nothing" if number == 1 else "floor 1" if number == 2 else f"floors 1 to {number - 1}"
        for place, (room, holds) in enumerate(floor.rooms.items()):
            lead = f"{number} **{floor.name}**: {below}" if place == 0 else ""
            lines.append(f"| {lead} | `{room}` | {_lines(files[room])} | {holds} |")
    return lines


def _lines(files: list[Path]) -> int:
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)


def table_in(page: str) -> list[str]:
    return page.split(BEGIN, 1)[1].split(END, 1)[0].strip().splitlines()


def main() -> None:
    """Print the table, or with --write put it into the page."""
    lines = "\n".join(table(declared()))
    if "--write" not in sys.argv[1:]:
        print(lines)
        return
    page = PICTURE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN, 1)
    PICTURE.write_text(f"{before}{BEGIN}\n\n{lines}\n\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
