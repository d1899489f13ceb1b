"""Everything public has a docstring: its own, or that of the method that it overrides."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.test_layers import MODULES

# Methods of other packages' classes that aerun's classes override.
OVERRIDDEN = {"nn.Module": {"forward", "train"}}


def classes(tree: ast.AST) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def methods(node: ast.ClassDef) -> Iterator[ast.FunctionDef]:
    """Also those that only a type checker sees."""
    for statement in node.body:
        for inner in statement.body if isinstance(statement, ast.If) else [statement]:
            if isinstance(inner, ast.FunctionDef):
                yield inner


def undocumented(modules: dict[Path, ast.Module]) -> list[str]:
    """The public functions, classes and methods that have no docstring and inherit none."""
    bases, documented = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for tree in modules.values():
        for node in classes(tree):
            bases[node.name] |= {ast.unparse(base).partition("[")[0] for base in node.bases}
            documented[node.name] |= {method.name for method in methods(node) if ast.get_docstring(method)}

    def inherited(name: str, seen: frozenset[str] = frozenset()) -> set[str]:
        above = [inherited(base, seen | {name}) for base in bases.get(name, set()) - seen]
        return documented.get(name, set()) | OVERRIDDEN.get(name, set()) | set().union(*above)

    found = []
    for path, tree in modules.items():
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_") or is_overload(node):
                continue
            if not ast.get_docstring(node):
                found.append(f"{path.name}: {node.name}")
            if isinstance(node, ast.ClassDef):
                public = {method.name for method in methods(node) if not method.name.startswith("_")}
                found += [f"{path.name}: {node.name}.{name}" for name in sorted(public - inherited(node.name))]
    return found


def is_overload(node: ast.FunctionDef | ast.ClassDef) -> bool:
    return any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list)


def test_everything_public_has_a_docstring() -> None:
    assert undocumented(MODULES) == []


def test_what_lacks_one_is_found() -> None:
    code = '''
class Base:
    """Doc."""
    def read(self): "Doc."
class Part(Base):
    """Doc."""
    def read(self): ...
    def write(self): ...
class _Private:
    def write(self): ...
def shown(): ...
def _hidden(): ...
'''
    assert undocumented({Path("x.py"): ast.parse(code)}) == ["x.py: Part.write", "x.py: shown"]
