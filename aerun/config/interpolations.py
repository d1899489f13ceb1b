"""Which keys of a configuration its interpolations read and write, so that all others can be set afterwards."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

ALL = ""  # among linked keys: any key may be linked
NAMES = re.compile(r"[^\s,:'\"\[\]]+")  # in an interpolation: of keys, of resolvers, and text, which does no harm


def linked_keys(plain: Mapping[str, Any]) -> frozenset[str]:
    """The dotted keys of an unresolved configuration whose values depend on others, and those they may depend on.

    With ``ALL`` if the interpolations do not show which: nested ones, and those inside lists.
    """
    found = set[str]()

    def visit(node: Any, path: str, parents: Sequence[str]) -> None:
        if isinstance(node, Mapping):
            for key, value in node.items():
                visit(value, f"{path}.{key}" if path else str(key), (*parents, path))
        elif isinstance(node, str) and "${" in node:
            found.add(path)
            for text in re.findall(r"\$\{([^}]*)", node):
                found.update({ALL} if "$" in text else {_absolute_key(name, parents) for name in NAMES.findall(text)})
        elif isinstance(node, list) and "${" in str(node):
            found.add(ALL)

    visit(plain, "", ())
    return frozenset(found)


def _absolute_key(name: str, parents: Sequence[str]) -> str:
    """The key that a name stands for; one that starts with dots is relative to the mappings around it."""
    relative = name.lstrip(".")
    dots = len(name) - len(relative)
    return f"{parents[-dots]}.{relative}".lstrip(".") if 0 < dots <= len(parents) else relative


def is_linked(key: str, linked: Collection[str]) -> bool:
    """Whether a key, or one around or inside it, is among the linked ones."""
    return any(name == ALL or f"{key}.".startswith(f"{name}.") or name.startswith(f"{key}.") for name in linked)
