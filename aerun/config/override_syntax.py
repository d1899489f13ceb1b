"""Hydra's syntax of ``key=value``: paths as a shell hands them on, and what is wrong with a word that Hydra rejects."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from aerun.errors import nearest

# Keys that take the path of a file or folder, or the name of a folder.
PATHS = ("dataset.root", "init_from", "resume", "sweep.name", "hydra.run.dir", "hydra.sweep.dir", "hydra.sweeper.file")
TEXTS = ("sweep.where",)  # keys whose value is always text, whatever is in it
MADE = ("sweep.name", "hydra.run.dir", "hydra.sweep.dir")  # which need not exist
PLAIN = r"[\w./+@%:|?*$-]([\w./+@%:|?*$ -]*[\w./+@%:|?*$-])?"  # letters that Hydra accepts without quotes
NO_TEXT = r"null|\?\?\?|'.*'|\".*\"|(choice|glob|shuffle|sort|tag|str)\(.*\)"
NUMBER_OR_BOOL = r"[+-]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(e[+-]?\d+)?|[+-]?(inf|nan)|true|false"
BRACKETS = {"(": ")", "[": "]", "{": "}"}


def expand_words(words: Sequence[str], several: bool = False) -> list[str]:
    """The same words, with ``key=~/...`` and ``--flag=~/...`` as the home folder, paths in quotes where Hydra needs
    them, and ``noise=[a,b]`` as Hydra composes it. Expanded words stay as they are.

    A shell expands ``~`` only at the start of a word. ``several``: of a sweep, in which commas separate values.
    """
    result = []
    for word in words:
        word = re.sub(r"^((?:--?)?[\w.+/-]+=)~(?=/|$)", lambda key: f"{key[1]}{Path.home()}", word)
        result.append(quote_path(word, several))
    return expand_lists(result)


def expand_lists(words: Sequence[str]) -> list[str]:
    """The same words, with ``noise=[a,b]`` as ``noise=several noise/parts=[a,b]``: Hydra composes several options of a
    group only by name."""
    result = list[str]()
    for word in words:
        listed = re.fullmatch(r"noise=(\[[\w\s,-]*\])", word)
        result += ["noise=several", f"noise/parts={listed[1]}"] if listed else [word]
    return result


def quoted(path: str | os.PathLike[str]) -> str:
    """A text as a value in quotes."""
    text = re.sub(r"(\\*)'", r"\1\1\\'", str(path))
    return "'" + re.sub(r"(\\+)$", r"\1\1", text) + "'"


def quote_path(word: str, several: bool) -> str:
    """The word, with quotes around a path or text that Hydra would not read as the text that it is.

    ``several``: commas separate the values of a sweep, unless the whole path exists.
    """
    match = re.fullmatch(r"([+~]{0,2}([\w.]+)=)(.+)", word, re.DOTALL)
    if match is None or match[2] not in (*PATHS, *TEXTS):
        return word
    start, key, path = match.groups()
    if key in TEXTS:
        return (
            word if re.fullmatch(r"null|'([^'\\]|\\.)*'|\"([^\"\\]|\\.)*\"", path, re.DOTALL) else start + quoted(path)
        )
    is_there = os.path.lexists(path)
    if not is_there:
        if re.fullmatch(NO_TEXT, path, re.DOTALL):
            return word
        if "," in path and (several or key not in MADE):
            values = [path] if "${" in path else path.split(",")
            return word if not several else start + ",".join(map(_quote, values))
    return start + _quote(path, is_there)


def _quote(path: str, is_there: bool = False) -> str:
    is_plain = re.fullmatch(PLAIN, path, re.ASCII) and not re.fullmatch(NUMBER_OR_BOOL, path, re.IGNORECASE)
    is_syntax = not is_there and re.fullmatch(NO_TEXT, path, re.DOTALL)
    return path if is_plain or is_syntax else quoted(path)


def syntax_error(word: str, text: str) -> str:
    """Why Hydra cannot read the word, in one line, given its own message."""
    key, equals, value = word.partition("=")
    if not equals or re.search(r"\s$|^\s", key) or value != value.lstrip() or not re.fullmatch(r"[+~\w./@:]*", key):
        return f"{word}: cannot be read as key=value (no spaces around =)"
    unknown = re.search(r"Unknown function '(\w+)'\s+Available: ([\w,]+)", text)
    if unknown:
        allowed = unknown[2].split(",")
        return f"{word}: there is no function {unknown[1]}.{nearest(unknown[1], allowed)} Allowed: {', '.join(allowed)}"
    reason = re.search(r"Error while evaluating '.*?': (.*)", text)
    if reason:
        return f"{word}: {reason[1]}"
    for opening, closing in BRACKETS.items():
        if value.count(opening) != value.count(closing):
            missing = closing if value.count(opening) > value.count(closing) else opening
            return f"{word}: '{missing}' is missing"
    if value.endswith(",") or value.startswith(",") or ",," in value:
        return f"{word}: a value is missing before or after a comma"
    if value.startswith(("[", "{")):
        return f"{word}: cannot be read; inside brackets, put quotes around each text: {key}=['…', '…']"
    return f"{word}: cannot be read; put quotes around the value: {shlex.quote(f'{key}={quoted(value)}')}"
