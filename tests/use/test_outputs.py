"""Existing files: kept unless --overwrite is given; foreign files are never replaced."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import aerun
from aerun.cli import denoise, doctor, embed, export, generate, organise, search
from aerun.cli import map as map_command
from aerun.errors import ConfigError, StorageError
from aerun.use.clusters import cluster_files
from aerun.use.clusters.clustering import Clusters
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.collection.thumbnails import Thumbnails
from aerun.use.export import export_formats
from aerun.use.opened_run import open_run
from aerun.use.outputs import OutputFolder, check_output_folder, replacing_folder, require_absent

Trained = Callable[..., Path]
OLD = OutputFolder("this test", lambda folder: sorted(p.name for p in folder.iterdir() if not p.name.startswith("old")))


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_existing_files_are_named_and_counted(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("a.png", "b.png", "c.png"))
    require_absent([first, tmp_path / "new" / "a.png"], overwrite=False)
    second.touch()
    with pytest.raises(ConfigError, match=r"b\.png: already exists; pass --overwrite to replace it$"):
        require_absent([first, second, third], overwrite=False)
    first.symlink_to("nowhere")
    with pytest.raises(ConfigError, match=r"a\.png and 1 more: already exist; pass --overwrite to replace them$"):
        require_absent([first, second, third], overwrite=False)
    require_absent([first, second, third], overwrite=True)
    third.mkdir()
    with pytest.raises(ConfigError, match=r"c\.png: is a folder; name a file"):
        require_absent([third], overwrite=True)
    with pytest.raises(ConfigError, match=r"b\.png/new/x: cannot be written, .*b\.png is not a folder"):
        require_absent([second / "new" / "x"], overwrite=True)
    with pytest.raises(ConfigError, match=r"b\.png: is not a folder; name a folder"):
        check_output_folder(second, OLD, overwrite=True)


@pytest.mark.parametrize("before", [None, [], ["old1", "old2"]])
def test_a_folder_is_written_as_a_whole(tmp_path: Path, before: list[str] | None) -> None:
    place = tmp_path / "above" / "place"
    if before is not None:
        place.mkdir(parents=True)
        for name in before:
            (place / name).write_text("before")
    was = tree(tmp_path)
    if before:
        with pytest.raises(ConfigError, match="old1 and 1 more: already exist; pass --overwrite to replace them"):
            check_output_folder(place, OLD, overwrite=False)
    with pytest.raises(KeyboardInterrupt), replacing_folder(place, OLD, overwrite=True) as building:
        (building / "old1").write_text("half")
        raise KeyboardInterrupt
    assert tree(tmp_path) == was and sorted(path.name for path in (tmp_path / "above").iterdir()) == (
        [] if before is None else ["place"]
    )
    with replacing_folder(place, OLD, overwrite=bool(before)) as building:
        (building / "sub").mkdir()
        (building / "sub" / "new").write_text("new")
        assert tree(tmp_path) != was and building.parent == place.parent
    assert tree(tmp_path) == {"above/place/sub/new": b"new"}
    assert [path.name for path in (tmp_path / "above").iterdir()] == ["place"]


def test_an_earlier_result_is_restored_if_the_new_one_cannot_be_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    for name in ("old1", "old2"):
        (place / name).write_text(name)
    was, move = tree(tmp_path), shutil.move

    def full(source: Path, goal: Path) -> None:
        if source.name == "new2" and source.parent != place:
            raise OSError(28, "No space left on device")
        move(source, goal)

    monkeypatch.setattr(shutil, "move", full)
    with pytest.raises(StorageError, match="No space left"), replacing_folder(place, OLD, overwrite=True) as building:
        (building / "new1").touch()
        (building / "new2").touch()
    assert tree(tmp_path) == was and [path.name for path in tmp_path.iterdir()] == ["place"]


def test_files_that_appear_during_writing_are_kept(tmp_path: Path) -> None:
    place = tmp_path / "place"
    with (
        pytest.raises(ConfigError, match=r"contains mine\.png, not written by this test"),
        replacing_folder(place, OLD, overwrite=True) as building,
    ):
        (building / "old1").touch()
        place.mkdir()
        (place / "mine.png").write_text("mine")
    assert tree(tmp_path) == {"place/mine.png": b"mine"}


@pytest.fixture
def clusters(trained: Trained, tmp_path: Path) -> tuple[Thumbnails, Clusters]:
    """Three images in two clusters."""
    names = ["a.png", "b.png", "below/c.png"]
    (tmp_path / "pictures" / "below").mkdir(parents=True)
    for name in names:
        Image.new("RGB", (9, 9), "red").save(tmp_path / "pictures" / name)
    prints = Fingerprints(names, np.zeros((3, 2), np.float32), "", root=str(tmp_path / "pictures"))
    found = Clusters(np.array([0, 0, 1]), np.array([0.1, 0.2, 0.0]), 2, {})
    return Thumbnails(open_run(trained()), prints), found


@pytest.mark.parametrize(
    "mine",
    [
        "mine.png",
        ".hidden",
        "sheets/mine.png",
        "sheets/2.png",
        "sheets/0.jpg",
        "sheets/more/0.png",
        "links/mine.png",
        "links/0/mine.png",
        "links/7/a.png",
        "clusters/0.png",
    ],
)
def test_organise_keeps_foreign_files(clusters: tuple[Thumbnails, Clusters], tmp_path: Path, mine: str) -> None:
    place = tmp_path / "clusters"
    cluster_files.write_clusters(place, *clusters, links=True)
    assert cluster_files.foreign_files(place) == []
    (place / mine).parent.mkdir(exist_ok=True)
    (place / mine).write_text("mine")
    before = tree(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match=r"contains .*; name another folder") as error:
            cluster_files.write_clusters(place, *clusters, overwrite=overwrite)
        assert mine.startswith(str(error.value).partition(": contains ")[2].partition(", not written")[0])
    assert tree(tmp_path) == before
    (place / mine).unlink()


def test_organise_replaces_an_earlier_result_but_not_the_linked_images(
    clusters: tuple[Thumbnails, Clusters], tmp_path: Path
) -> None:
    place = tmp_path / "clusters"
    cluster_files.write_clusters(place, *clusters, links=True)
    before = tree(tmp_path / "pictures")
    assert (place / "links" / "1" / "below__c.png").resolve() == tmp_path / "pictures" / "below" / "c.png"
    one = Clusters(np.zeros(3, int), np.zeros(3), 1, {})
    cluster_files.write_clusters(place, clusters[0], one, overwrite=True)
    assert sorted(tree(place)) == ["clusters.csv", "overview.png", "sheets/0.png"]
    assert tree(tmp_path / "pictures") == before
    # Without our table, the sheets are foreign files.
    (place / "clusters.csv").write_text("file,size\na,1\n")
    with pytest.raises(ConfigError, match=r"contains clusters\.csv and 2 more, not written by aerun-organise"):
        cluster_files.write_clusters(place, *clusters, overwrite=True)
    # An output folder may be a link; a link inside it is a foreign file.
    cluster_files.write_clusters(tmp_path / "again", *clusters)
    (tmp_path / "link").symlink_to("again")
    cluster_files.write_clusters(tmp_path / "link", clusters[0], one, overwrite=True)
    assert (tmp_path / "link").is_symlink() and sorted(tree(tmp_path / "again")) == [
        "clusters.csv",
        "overview.png",
        "sheets/0.png",
    ]
    (tmp_path / "again" / "links").symlink_to(tmp_path / "pictures")
    assert cluster_files.foreign_files(tmp_path / "again") == ["links"]


def test_export_replaces_only_an_earlier_export(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, place = trained(), tmp_path / "exported"
    monkeypatch.setattr("aerun.use.export.export_run.write_graphs", lambda model, place, names: {})
    monkeypatch.setattr("aerun.use.export.export_run.write_card", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        aerun.export(run, place, ["safetensors"])
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    aerun.export(run, place, ["safetensors"])
    (place / "encoder.onnx").touch()  # of an earlier export with more formats
    with pytest.raises(ConfigError, match=r"README\.md and \d more: already exist; pass --overwrite to replace them"):
        aerun.export(run, place, ["safetensors"])
    with pytest.raises(ConfigError, match="is the run itself"):
        aerun.export(place, place, ["torch"], overwrite=True)
    aerun.export(run, place, ["safetensors"], overwrite=True)
    assert "encoder.onnx" not in tree(place) and "model.safetensors" in tree(place)
    (place / "notes.txt").touch()
    with pytest.raises(ConfigError, match=r"contains notes\.txt, not written by aerun-export"):
        aerun.export(run, place, ["safetensors"], overwrite=True)
    project = tmp_path / "project"
    project.mkdir()
    (project / "README.md").write_text("# My project\n")
    assert export_formats.foreign_files(project) == ["README.md"]


def test_figures_are_replaced_only_with_overwrite(
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    out, run = tmp_path / "made", str(trained())

    def call(command: object, *words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["aerun", *words, "-o", str(out)])
        return command.main(), capsys.readouterr().err  # type: ignore[attr-defined]

    samples = ("samples", run, "--frames", "--components", "1", "-n")
    assert call(generate, *samples, "3")[0] == 0
    assert call(map_command, run, "--images", "20", "--drawn", "0")[0] == 0
    before = tree(out)
    assert sorted(before) == ["map_pca.png", "samples.png", *(f"samples/000{number}.png" for number in range(3))]
    (out / "samples" / "0002.png").unlink()
    code, error = call(generate, *samples, "2", "--seed", "1")
    assert (code, error) == (
        1,
        f"aerun: {out}/samples.png and 2 more: already exist; pass --overwrite to replace them\n",
    )
    code, error = call(map_command, run, "--images", "30")
    assert (code, error) == (1, f"aerun: {out}/map_pca.png: already exists; pass --overwrite to replace it\n")
    (out / "samples" / "0002.png").write_text("of before")
    code, error = call(generate, *samples, "2", "--seed", "1", "--overwrite")
    assert code == 0 and "samples/0002.png: not one of these frames; existed before" in caplog.text
    assert call(map_command, run, "--images", "30", "--drawn", "0", "--overwrite")[0] == 0
    after = tree(out)
    assert after.keys() == before.keys() and after["samples/0002.png"] == b"of before"
    assert all(after[name] != before[name] for name in before)


def test_embed_creates_folders_and_keeps_files(
    trained: Trained, drawings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AERUN_DATA", str(tmp_path / "cache"))
    path = tmp_path / "new" / "folder" / "x.npz"
    words = [str(trained()), str(drawings), "-o", str(path)]
    embed.execute(embed.build_parser().parse_args(words))
    content = path.read_bytes()
    with pytest.raises(ConfigError, match=r"x\.npz: already exists; pass --overwrite to replace it"):
        embed.execute(embed.build_parser().parse_args(words))
    embed.execute(embed.build_parser().parse_args([*words, "--overwrite", "--as", "float16"]))
    assert path.read_bytes() != content and [path.name for path in path.parent.iterdir()] == ["x.npz"]


def test_every_writing_command_has_overwrite() -> None:
    for command in (denoise, doctor, embed, export, map_command, organise, search):
        assert "--overwrite" in command.build_parser().format_help(), command
    for kind in ("samples", "interpolate", "traverse", "arithmetic"):
        words = [kind, "RUN", *{"interpolate": "ab", "arithmetic": "a"}.get(kind, ""), "-o", "made"]
        assert not generate.build_parser().parse_args(words).overwrite
