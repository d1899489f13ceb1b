"""What scripts/house.py counts in the files of a checkout, one function a figure.

A room is a module or package directly under aerun/, ``scripts/`` or ``benchmarks/``. An arrow A -> B is an import of
something in B anywhere in A: at the top of a file, inside a function, or for type checkers only.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

OUTSIDE = ("scripts", "benchmarks")  # one room each, above all rooms of aerun/
OFFENDERS = ("beside", "told", "apart", "goes on", "anew", "alike", "whoever")
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

Trees = Mapping[str, ast.Module]  # by path, relative to the checkout
Arrows = set[tuple[str, str]]  # (who imports, what is imported)
Floors = Sequence[Sequence[str]]  # rooms, from the top floor down


def parse_files(root: Path, *tops: str) -> dict[str, ast.Module]:
    """The syntax tree of every Python file under the folders ``tops`` of a checkout."""
    files = sorted(path for top in tops for path in (root / top).rglob("*.py"))
    return {path.relative_to(root).as_posix(): ast.parse(path.read_text("utf-8"), str(path)) for path in files}


def room(file: str) -> str:
    """aerun/x.py and aerun/x/y.py are in room x, the package's own __init__ and __main__ in one, and every file of
    scripts/ in room scripts."""
    top, *rest = Path(file).parts
    name = Path(rest[0]).stem if top == "aerun" else top
    return "__init__" if name == "__main__" else name


def module_name(file: str) -> str:
    """The dotted name under which a file is imported."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def file_arrows(trees: Trees) -> Arrows:
    """(file, file) for each import of one file by another; names of a package lead to its ``__init__.py``."""
    files = {module_name(file): file for file in trees}
    arrows = {(file, files[name]) for file, tree in trees.items() for name in _imported(file, tree, files)}
    return {(source, target) for source, target in arrows if source != target}


def _imported(file: str, tree: ast.Module, known: Collection[str]) -> Iterator[str]:
    """The ``known`` modules that a file names in its import statements."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [(alias.name, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(file, node)
            names = [(f"{base}.{alias.name}", base) for alias in node.names]
        else:
            continue
        yield from (name if name in known else base for name, base in names if name in known or base in known)


def _absolute(file: str, node: ast.ImportFrom) -> str:
    """The module that ``from ... import`` names, also where it is relative to its own package."""
    package = file.split("/")[: -node.level] if node.level else []
    return ".".join([*package, *([node.module] if node.module else [])])


def room_arrows(arrows: Arrows) -> Arrows:
    """(room, room), once however many files draw it."""
    return {(room(source), room(target)) for source, target in crossing(arrows)}


def drawn_in(arrow: tuple[str, str], arrows: Arrows) -> list[str]:
    """The files of one room that import something of the other."""
    return sorted({source for source, target in arrows if (room(source), room(target)) == arrow})


def crossing(arrows: Arrows) -> Arrows:
    """Those (file, file) whose rooms differ."""
    return {(source, target) for source, target in arrows if room(source) != room(target)}


def within_package(arrows: Arrows) -> Arrows:
    """Those (room, room) of which neither is outside aerun/."""
    return {arrow for arrow in arrows if not set(arrow) & set(OUTSIDE)}


def upward_arrows(arrows: Arrows, floors: Floors) -> list[tuple[str, str]]:
    """Those that lead to a room above, or to another of the same floor; ``floors`` have a place for every room."""
    place = {name: number for number, floor in enumerate(floors) for name in floor}
    return sorted((source, target) for source, target in arrows if place[source] >= place[target])


def upward_inside(arrows: Arrows) -> list[list[tuple[str, str]]]:
    """For each circle of files of one room, the (file, file) that lead upwards in the order derived for them."""
    found = circles({(source, target) for source, target in arrows if room(source) == room(target)})
    insides = [(circle, {arrow for arrow in arrows if set(circle).issuperset(arrow)}) for circle in found]
    return [upward_arrows(inside, derived_floors(inside, circle)) for circle, inside in insides]


def circles(arrows: Arrows) -> list[list[str]]:
    """The strongly connected components of more than one member."""
    imports: dict[str, set[str]] = {}
    for source, target in arrows:
        imports.setdefault(source, set()).add(target)
    reached = {name: _reachable(name, imports) for name in imports}
    found = {frozenset(other for other in reached[name] if name in reached.get(other, ())) for name in imports}
    return sorted(sorted(members) for members in found if len(members) > 1)


def _reachable(start: str, imports: Mapping[str, set[str]]) -> set[str]:
    """All that ``start`` imports, directly or not; itself where it is in a circle."""
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        new = imports.get(waiting.pop(), set()) - reached
        reached |= new
        waiting += new
    return reached


def declared_floors(root: Path) -> Floors | None:
    """``ROOMS`` of a checkout's tests/test_layers.py, from the top down; None where there is none.

    An entry is a floor, or the one room of a floor.
    """
    path = root / "tests" / "test_layers.py"
    for node in ast.parse(path.read_text("utf-8")).body if path.exists() else ():
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(target, ast.Name) and target.id == "ROOMS":
            entries = ast.literal_eval(node.value) if node.value else ()
            return [(entry,) if isinstance(entry, str) else tuple(entry) for entry in entries]
    return None


def derived_floors(arrows: Arrows, rooms: Collection[str]) -> Floors:
    """Rooms from the top down, one a floor, with few arrows upwards; with none where there is no circle.

    Greedy (Eades, Lin, Smyth 1993, https://doi.org/10.1016/0020-0190(93)90079-O), then one room at a time is moved
    for as long as that helps. A minimum that no single move improves, not always the least.
    """
    top: list[str] = []
    bottom: list[str] = []
    left = set(rooms)
    while left:
        inside = [arrow for arrow in arrows if left.issuperset(arrow)]
        importing, imported = Counter(source for source, _ in inside), Counter(target for _, target in inside)
        if lowest := sorted(name for name in left if not importing[name]):
            bottom = lowest + bottom
            left -= set(lowest)
        else:
            best = max(sorted(left), key=lambda name: (not imported[name], importing[name] - imported[name]))
            top.append(best)
            left.remove(best)
    return _improve([(name,) for name in top + bottom], arrows)


def _improve(floors: list[tuple[str]], arrows: Arrows) -> list[tuple[str]]:
    """Move single rooms for as long as fewer arrows lead upwards."""
    fewest, before = len(upward_arrows(arrows, floors)), -1
    while fewest != before:
        before = fewest
        for floor in sorted(floors):
            others = [other for other in floors if other != floor]
            for place in range(len(floors)):
                moved = [*others[:place], floor, *others[place:]]
                if (count := len(upward_arrows(arrows, moved))) < fewest:
                    floors, fewest = moved, count
    return floors


def count_calls(trees: Trees, names: Collection[str]) -> int:
    """Calls of built-in functions by these names."""
    calls = (node.func for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.Call))
    return sum(isinstance(function, ast.Name) and function.id in names for function in calls)


def count_words(texts: Iterable[str], word: str) -> int:
    """Whole words in any case; those of a phrase may stand on two lines."""
    pattern = re.compile(r"\b" + r"\s+".join(map(re.escape, word.split())) + r"\b", re.IGNORECASE)
    return sum(len(pattern.findall(text)) for text in texts)


def local_imports(trees: Trees) -> int:
    """Import statements inside functions."""
    found = {
        (file, statement.lineno, statement.col_offset)
        for file, tree in trees.items()
        for function in ast.walk(tree)
        if isinstance(function, DEFINITIONS)
        for statement in ast.walk(function)
        if isinstance(statement, ast.Import | ast.ImportFrom)
    }
    return len(found)


def type_checking_blocks(trees: Trees) -> int:
    """``if TYPE_CHECKING:``"""
    tests = (node.test for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.If))
    return sum(ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING") for test in tests)


def long_functions(trees: Trees, lines: int) -> list[str]:
    """``file:function`` of those over so many lines, decorators not counted."""
    return [
        f"{file}:{node.name}"
        for file, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, DEFINITIONS) and (node.end_lineno or 0) - node.lineno + 1 > lines
    ]


def prose_files(root: Path) -> list[Path]:
    """The files in which words are counted: code, configuration and documents, without the list of words itself."""
    found = [path for top in ("aerun", "scripts", "conf", "docs") for path in (root / top).rglob("*")]
    named = [path for path in found if path.suffix in (".py", ".yaml", ".md") and path.name != Path(__file__).name]
    return sorted([*named, *(path for path in [root / "README.md"] if path.exists())])
