"""The pictures and the HTML page, in a browser if there is one."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from aerun.compare import Question, collect, compare
from aerun.compare.curve_pictures import MAX_LABEL_LENGTH, short_labels
from aerun.compare.html_page import build_page
from aerun.compare.report_pictures import Picture, draw_pictures
from aerun.figures import curves_with_baselines
from aerun.figures.canvas import Sheet, render
from aerun.figures.montage import montage
from aerun.figures.parallel_chart import Scale
from aerun.figures.parallel_chart import parallel_coordinates as parallel
from aerun.figures.run_charts import Curve, ErrorBySize, error_by_code_size, heat_map, learning_curves
from tests.runs import write_run

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the page in")
NASTY = '<b>&"\'</script><script>document.title="owned"</script>'


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """Three keys, two seeds, probes, a failure, and values that need escaping."""
    number = 0
    for model in ("fc", "conv"):
        for sparsity in ("none", "topk"):
            for lr in (0.001, 0.01):
                for seed in (0, 1):
                    number += 1
                    folder = write_run(
                        tmp_path / "grid" / f"run {number}",
                        0.05 / number,
                        model=model,
                        sparsity=sparsity,
                        lr=lr,
                        seed=seed,
                        code_size=64 if model == "fc" else 576,
                        pca=0.02 if model == "fc" else 0.001,
                    )
                    write_probes(folder, number)
    write_run(tmp_path / "grid" / "nasty <i>", 0.04, config={"note": NASTY})
    error = "DivergedError: <img src=x onerror=alert(1)>"
    write_run(tmp_path / "grid" / "bad", lr=0.5, state="diverged", error=error)
    return tmp_path / "grid"


def write_probes(folder: Path, number: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (16, 1, 28, 28), dtype=np.uint8)
    outputs = np.minimum(images, 255 - number)
    np.savez(folder / "probes.npz", inputs=images, noisy=images, targets=images, reconstructions=outputs)


def drawn(folder: Path, **question: object) -> dict[str, Picture]:
    comparison = compare(collect([folder]), Question(**question))  # type: ignore[arg-type]
    return {picture.name: picture for picture in draw_pictures(comparison)}


def test_which_pictures_are_drawn(grid: Path) -> None:
    assert list(drawn(grid)) == ["learning_curves", "parallel_coordinates", "code_size", "montage"]
    assert "heat_map" in drawn(grid, group_by=("model", "sparsity"))
    one = drawn(grid, group_by=("optimizer.lr",), where=("model=fc",))
    assert list(one) == ["learning_curves", "montage"]
    asked = drawn(grid, group_by=("model",), expected_best=(2,), pareto=("test/mse", "code_size"))
    assert list(asked) == ["learning_curves", "code_size", "expected_best", "pareto_front", "montage"]


def test_the_montage_has_the_pixels_of_the_runs(grid: Path) -> None:
    """The first column has the pixels of the first target and of its reconstruction by the best run."""
    picture = drawn(grid, where=("model=conv", "sparsity=topk", "optimizer.lr=0.01"))["montage"]
    pixels = np.asarray(Image.open(io.BytesIO(picture.png)))[:, :, 0]
    width = 16 * 58 - 0
    left = pixels.shape[1] - width
    with np.load(grid / "run 16" / "probes.npz") as probes:
        target, output = probes["targets"][0, 0], probes["reconstructions"][0, 0]
    assert np.array_equal(pixels[0:56:2, left : left + 56 : 2], target)
    assert np.array_equal(pixels[58:114:2, left : left + 56 : 2], output)


def test_runs_on_other_images_are_left_out_of_the_montage(grid: Path) -> None:
    images = np.zeros((16, 3, 40, 40), np.uint8)
    np.savez(grid / "run 1" / "probes.npz", targets=images, reconstructions=images)
    (grid / "run 2" / "probes.npz").write_bytes(b"PK damaged")
    caption = drawn(grid, grouped=False)["montage"].caption
    assert "Left out: 1 row with other test images." in caption


def test_unfinished_runs_have_learning_curves_only(tmp_path: Path) -> None:
    write_run(tmp_path / "a", state="running", losses=(0.3, 0.2))
    write_run(tmp_path / "b", lr=0.1, state="running", losses=())
    assert list(drawn(tmp_path)) == ["learning_curves"]


def test_long_texts_are_cut_where_they_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte of letters would take minutes."""
    seen: list[str] = []

    def note(*arguments: object) -> Figure:
        for argument in arguments:
            parts = vars(argument).values() if isinstance(argument, Scale) else [argument]
            for part in parts:
                seen.extend(text for text in (part if isinstance(part, list | tuple) else [part]) if type(text) is str)
                note(*(scale for scale in part if isinstance(scale, Scale))) if isinstance(part, list) else None
        return Figure()

    monkeypatch.setattr("aerun.compare.report_pictures.parallel_coordinates", note)
    monkeypatch.setattr("aerun.compare.report_pictures.heat_map", note)
    for number in range(4):
        config = {"k" * 99: f"{number % 2}{'v' * 99}{number % 2}", "long" * 30: f"{number // 2}" + "w" * 99, "seed": 0}
        summary = {"test": {"mse": 0.1, "m" * 99: 0.1 * number}}
        write_run(tmp_path / str(number), 0.1, lr=0.1 * number, config=config, summary=summary)
    metric = f"test/{'m' * 99}"
    assert "parallel_coordinates" in drawn(tmp_path, metrics=(metric,))
    assert "heat_map" in drawn(tmp_path, metrics=(metric,), group_by=("k" * 99, "long" * 30))
    assert {len(text) for text in seen} <= set(range(45)) and any(set(text) == set("k…") for text in seen)


def test_figures_accept_unusual_values() -> None:
    """Single points, missing and repeated values, negative and equal numbers, words."""
    point = Curve("one", [1.0], [0.5], [0.5], [0.5], complete=False)
    many = [Curve(str(i), [1, 2], [-1, 1], [-2, 0], [0, 2]) for i in range(14)]
    assert render(learning_curves([point], "loss")).ndim == render(learning_curves(many, "loss")).ndim == 3
    values = np.array([[0.1, np.nan], [100.0, 0.1]])
    assert render(heat_map(values, ["a", "b"], ["1", "a long name"], ("x", "y"), "mse", False)).shape[2] == 3
    assert render(heat_map(np.zeros((2, 2)), ["a", "b"], ["1", "2"], ("x", "y"), "mse", True)).shape[2] == 3
    scales = [Scale("x", [1.0, None, "a"]), Scale("y", [1.0, 1.0, 1.0]), Scale("z", [1e-5, 1.0, 0.1])]
    assert render(parallel(scales, Scale("mse", [0.1, 0.2, 0.2]), False)).shape[2] == 3
    assert render(error_by_code_size([ErrorBySize("a", [4.0], [0.1], [0.0])], ([], []), None, "mse")).shape[2] == 3
    grey, colour = np.zeros((4, 1, 8, 8), np.uint8), np.full((4, 3, 8, 8), 255, np.uint8)
    assert montage([("grey", grey), ("colour", colour)]).shape[2] == 3
    assert montage([("large", np.zeros((2, 1, 300, 200), np.uint8))]).shape[0] < 300


def test_names_of_parallel_axes_do_not_overlap_in_a_column() -> None:
    scales = [Scale(name, ["a", "b"]) for name in ("noise", "model", "sparsity", "optimizer.lr")]
    figure = parallel(scales, Scale("validation/mse", [0.1, 0.2]), False, Sheet(3.25))
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_weight() == "bold"]
    assert len(boxes) == 5 and not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_a_chart_names_how_many_kinds_are_gray() -> None:
    kinds = [ErrorBySize(str(number), [4.0, 8.0], [0.2, 0.1], [0.0, 0.0]) for number in range(13)]
    [legend] = error_by_code_size(kinds, ([], []), None, "mse").legends
    assert [text.get_text() for text in legend.get_texts()] == [*map(str, range(10)), "3 more"]


def test_baselines_are_not_covered_by_the_legend() -> None:
    series = {"train/loss": ([1.0, 2.0], [0.2, 0.1]), "validation/loss": ([1.0, 2.0], [0.15, 0.11])}
    pixels = curves_with_baselines(series, {"test/mse": 0.11}, {"mean image": 0.3, "PCA": 0.01}, "MSE")
    purple, brown = ((148, 103, 189), (140, 86, 75))  # matplotlib's C4 and C5
    for color in (purple, brown):
        rows = (np.abs(pixels.astype(int) - color).sum(2) < 30).sum(1)
        assert rows.max() > 0.4 * pixels.shape[1]  # a dashed line all across the axes


class Page(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def page(grid: Path, folder: Path, **question: object) -> str:
    comparison = compare(collect([grid]), Question(**question))  # type: ignore[arg-type]
    return build_page(comparison, draw_pictures(comparison), folder)


def test_the_page_is_one_file_that_loads_nothing(grid: Path, tmp_path: Path) -> None:
    content = Page(page(grid, tmp_path / "report"))
    images = [attributes["src"] or "" for tag, attributes in content.tags if tag == "img"]
    assert len(images) == 4 and all(source.startswith("data:image/png;base64,") for source in images)
    assert base64.b64decode(images[0].partition(",")[2]).startswith(b"\x89PNG")
    assert not [tag for tag, _ in content.tags if tag in ("link", "iframe", "object")]
    assert not [attributes for tag, attributes in content.tags if tag == "script" and attributes]
    assert not re.findall(r"https?://", page(grid, tmp_path / "report"))


def test_values_are_escaped_on_the_page(grid: Path, tmp_path: Path) -> None:
    content = Page(page(grid, tmp_path / "report"))
    assert not [tag for tag, _ in content.tags if tag == "i"]
    assert len([tag for tag, _ in content.tags if tag == "script"]) == 1
    assert NASTY in content.text
    assert "DivergedError: <img src=x onerror=alert(1)>" in content.text
    links = {attributes["href"] for tag, attributes in content.tags if tag == "a"}
    assert {"../grid/run%201/", "../grid/nasty%20%3Ci%3E/", "../grid/bad/"} <= links


def opened(path: Path, address: str, *flags: str) -> str:
    """The page in Chromium, after its script has run."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        *flags,
        "--dump-dom",
        f"{path.as_uri()}{address}",
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


def column(dom: str, table: str, index: int) -> list[str]:
    body = dom.partition(f'<table id="{table}">')[2].partition("<tbody>")[2].partition("</tbody>")[0]
    rows = [row for row in body.split("<tr")[1:] if " hidden" not in row.partition(">")[0]]
    return [re.findall(r'data-value="([^"]*)"', row)[index] for row in rows]


@browser
def test_a_browser_sorts_and_filters(grid: Path, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text(page(grid, tmp_path), encoding="utf-8")
    dom = opened(path, "#sort=-test/mse")
    values = [float(value) for value in column(dom, "rows", 4) if value]
    assert len(values) == 9 and values == sorted(values, reverse=True)
    assert column(dom, "rows", 4)[-1] == ""  # the diverged group is always last
    assert 'data-name="test/mse" class="number" aria-sort="descending"' in dom
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title is not None and title[1] == "grid: test/mse"
    dom = opened(path, "#sort=optimizer.lr&filter=topk%20conv")
    assert column(dom, "rows", 2) == ["0.001", "0.01"]
    assert column(dom, "rows", 0) == ["conv", "conv"] and len(column(dom, "all", 0)) == 4
    assert "2 of" in dom.partition('<output id="count">')[2][:20]


@browser
def test_the_first_click_on_a_metric_puts_the_best_first(tmp_path: Path) -> None:
    for name, psnr in (("a", 20.0), ("b", 30.0), ("c", 10.0)):
        write_run(tmp_path / name, 1 / psnr, lr=psnr, summary={"test": {"mse": 1 / psnr, "psnr": psnr}})
    text = page(tmp_path, tmp_path)
    names = ("test/psnr", "test/mse", "optimizer.lr")
    for name, clicks, wanted in zip(
        names * 2, (1, 1, 1, 2, 2, 2), ("bac", "bac", "cab", "cab", "cab", "bac"), strict=True
    ):
        path = tmp_path / "index.html"
        click = f"document.querySelector('th[data-name=\"{name}\"] button').click();"
        path.write_text(f"{text}<script>{click * clicks}</script>", encoding="utf-8")
        order = column(opened(path, ""), "rows", 0)
        assert "".join({"20.0": "a", "30.0": "b", "10.0": "c"}[value] for value in order) == wanted, (name, clicks)


def test_labels_of_charts_differ_where_rows_do() -> None:
    start, end = ("conv", "no noise", "activation=leaky_relu"), ("batch_size=128", "epochs=100", "seed=1")
    groups = [(*start, f"lr={rate}", *end) for rate in ("0.1", "0.01")] + [("fc",), ("fc", "lr=0.1")]
    assert short_labels(groups) == ["…, lr=0.1", "…, lr=0.01", "fc", "fc, lr=0.1"]
    assert all(len(label) <= MAX_LABEL_LENGTH for label in short_labels([("x" * 90,), ("y" * 90,)]))
    assert short_labels([("a",), ("a",)]) == ["a", "a"]  # of one row each, by --no-group
