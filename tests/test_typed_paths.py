"""A folder is named as it is called: every name that a shell can hand on, to every key that takes one."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException
from hypothesis import example, given
from hypothesis import strategies as st

from aerun.base.conf import conf_dir
from aerun.config.compose import compose_words
from aerun.config.explain import compose_choices, explain
from aerun.config.override_syntax import MADE, PATHS, expand_words
from aerun.sweep.points import axes

PARSER = OverridesParser.create()
NAMES = [
    *(
        "ünï",
        "絵",
        "it's",
        'say "hi"',
        "two words",
        " a ",
        "a=b",
        "(copy)",
        "a(1).b",
        "[old]",
        "{x}",
        "a&b",
        "a;b",
        "#1",
    ),
    *("100%", "a@b", "c:d", "e|f", "g$h", "2026", "1e5", "true", "nan", "-1", "a\\b", "a\\", "a!", "a^b", "a~", "`x`"),
    *("caf\udce9", "😀", "a\tb", "a\nb", "\\'", "<a>", "*", "a,b", "'a", 'b"', "'a'", "choice(1)"),
]
TEXT = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=20)


def value_of(word: str) -> object:
    return PARSER.parse_override(word).value()


@given(TEXT)
@example("2026")
def test_any_name_of_a_new_folder_is_read_as_typed(name: str) -> None:
    for key in MADE:
        if "${" not in name:
            [word] = expand_words([f"{key}=/new/{name}"])
            assert value_of(word) == f"/new/{name}"


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_an_existing_folder_reaches_every_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    for path in (name, f"{tmp_path}/{name}", f"{tmp_path}/{name}/"):
        for key in PATHS:
            [word] = expand_words([f"{key}={path}"])
            assert value_of(word) == path
            [axis] = axes(expand_words([f"+{key}={path}"], several=True), PARSER)
            assert [value_of(point) for point in axis.overrides] == [path]
    config, _ = compose_words(expand_words(["dataset=image_folder", f"dataset.root={name}", f"init_from={name}"]))
    assert config["dataset"]["root"] == config["init_from"] == os.path.abspath(name)  # noqa: PTH100


def test_several_folders_of_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"/art/{name}" for name in NAMES if "," not in name]
    [axis] = axes(expand_words(["dataset.root=" + ",".join(names)], several=True), PARSER)
    assert [value_of(point) for point in axis.overrides] == names


@pytest.mark.parametrize(
    "word",
    [
        "resume=null",
        "dataset.root=???",
        "dataset.root='two words'",
        "dataset.root=choice('a b',c)",
        "dataset.root=outputs/x_1.npz",
        "dataset.root=a,b",  # without -m Hydra says what is missing
        "optimizer.lr=1e-3",
        "noise=none",
        "hydra.launcher.setup=[a b]",
    ],
)
def test_what_hydra_reads_is_left_as_it_is(word: str) -> None:
    assert expand_words([word]) == [word]


def test_interpolations_still_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ART", "/tmp/größe")
    config, _ = compose_words(expand_words(["dataset=image_folder", "dataset.root=${oc.env:ART}/é"]))
    assert config["dataset"]["root"] == "/tmp/größe/é"


def test_every_key_that_takes_a_path_is_known() -> None:
    """By its name: a new one must be added to the list, or be called otherwise."""
    found = set()

    def walk(node: object, path: str) -> None:
        for key, value in node.items() if isinstance(node, dict) else ():
            name = f"{path}.{key}" if path else str(key)
            if key in ("root", "file", "dir", "folder", "path", "resume", "init_from") and not isinstance(value, dict):
                found.add(name)
            walk(value, name)

    for file in conf_dir().rglob("*.yaml"):
        group = file.parent.relative_to(conf_dir()).as_posix().replace("/", ".")
        content = yaml.safe_load(file.read_text()) or {}
        if "hydra.job_logging" not in group:
            walk(content, "" if group in (".", "experiment") else group)
    assert found and found <= set(PATHS)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("trainer.epochs=rang(1,3)", "there is no function rang. Did you mean 'range'?"),
        ("trainer.epochs=choice(8,16", "')' is missing"),
        ("model.hidden=[1,2", "']' is missing"),
        ("model.hidden=1,2]", "'[' is missing"),
        ("optimizer.betas={a: 1", "'}' is missing"),
        ("trainer.epochs=choice()", "empty choice is not legal"),
        ("trainer.epochs=range(a,b)", "mismatch type argument start"),
        ("seed=0,", "before or after a comma"),
        ("optimizer.lr = 0.1", "no spaces around ="),
        ("seed", "no spaces around ="),
        ("dataset.labels_key=größe", "put quotes around the value"),
        ("dataset.labels_key=a&b", "put quotes around the value"),
        ("dataset.classes=[größe,b]", "inside brackets, put quotes around each text"),
    ],
)
def test_a_word_that_cannot_be_read_names_the_cause(word: str, says: str) -> None:
    with pytest.raises(OverrideParseException) as caught:
        PARSER.parse_overrides([word])
    text = explain(caught.value, [word])
    assert text is not None and text.startswith(word.partition("=")[0]) and says in text and "\n" not in text
    if "around the value: " in text:
        [advised] = shlex.split(text.partition("value: ")[2])
        assert value_of(advised) == word.partition("=")[2]


@pytest.mark.parametrize("name", ["two words", "größe", "it's"])
def test_a_configuration_folder_of_such_a_name_is_looked_at_for_the_nearest_key(tmp_path: Path, name: str) -> None:
    (tmp_path / name / "model").mkdir(parents=True)
    (tmp_path / name / "model" / "mine.yaml").write_text("defaults: [fc, _self_]\nfilters: 3\n")
    for words in (["--config-dir", str(tmp_path / name)], [f"--config-dir={tmp_path / name}"]):
        assert compose_choices([*words, "model=mine", "model.filtres=4"])["model"]["filters"] == 3


def test_a_printed_line_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell splits it, and the words are composed as of a command line."""
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        (tmp_path / name).mkdir()
        [word] = shlex.split(shlex.quote(f"resume={name}"))
        config, _ = compose_words(expand_words([word]))
        assert config["resume"] == name
