"""New images: their codes, the paths between them, and the written files."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from aerun.base.arguments import Parser
from aerun.cli.generate import build_parser, main, parse_terms
from aerun.core.interpolation import linear, spherical
from aerun.core.mixture import fit_mixture, nearest_valid_codes
from aerun.errors import ConfigError, DataError
from aerun.use.generation.empty_points import emptiest_points, find_empty_points, nearest_errors
from aerun.use.generation.frames import there_and_back, write_frames, write_gif
from aerun.use.generation.neighbor_walk import walk_through_neighbors
from aerun.use.generation.new_images import arithmetic, interpolate, samples, traverse
from aerun.use.generation.sampling import sample_codes
from aerun.use.inputs import read_image
from aerun.use.inputs import sample_test_images as images_of_test
from aerun.use.maps.code_units import measure_units
from aerun.use.opened_run import open_run

Trained = Callable[..., Path]
VAE = ("model=fc_vae", "model.hidden=[32]", "model.code_size=3", "loss=bce")
PLANE = ("model=fc_vae", "model.hidden=[32]", "model.code_size=2", "loss=bce")
SPARSE = ("sparsity=topk", "sparsity.k=8")
MAPS = ("model=conv", "dataset.train_limit=256", "trainer.epochs=1")


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_spherical_interpolation_has_a_closed_form() -> None:
    first, last = torch.tensor([[3.0, 0, 0], [1, 1, 0]]), torch.tensor([[0, 1.0, 0], [1, 1, 2]])
    way = spherical(first, last, 7)
    assert torch.equal(way[0], first) and torch.equal(way[-1], last)
    for step, t in enumerate(np.linspace(0, 1, 7)):
        length = 3 * (1 - t) + t
        point = torch.tensor([length * math.cos(t * math.pi / 2), length * math.sin(t * math.pi / 2), 0])
        torch.testing.assert_close(way[step, 0], point.float(), atol=1e-5, rtol=0)
    lengths = torch.linspace(0, 1, 7) * (6**0.5 - 2**0.5) + 2**0.5
    torch.testing.assert_close(way[:, 1].norm(dim=1), lengths, atol=1e-5, rtol=0)
    angle = math.acos(2 / (2**0.5 * 6**0.5)) / 6
    cosines = torch.nn.functional.cosine_similarity(way[1:, 1], way[:-1, 1])
    torch.testing.assert_close(cosines, torch.full((6,), math.cos(angle)), atol=1e-5, rtol=0)


def test_spherical_interpolation_is_straight_where_no_circle_exists() -> None:
    first = torch.tensor([[1.0, 2, 2], [1, 0, 0], [0, 0, 0]])
    last = torch.tensor([[2.0, 4, 4], [-1, 0, 0], [1, 2, 3]])
    assert torch.equal(spherical(first, last, 5), linear(first, last, 5))
    torch.testing.assert_close(linear(first, last, 5)[2], (first + last) / 2)


def test_a_mixture_recovers_moments_and_components() -> None:
    centers = torch.tensor([[0.0, 0, 7], [40, 0, 7]])
    codes = torch.cat([centers[0] + normals(600, 3), centers[1] + 2 * normals(300, 3, seed=1)])
    codes[:, 2] = 7
    mixture = fit_mixture(codes)
    assert mixture.components == 2
    drawn = mixture.sample(30000)
    torch.testing.assert_close(drawn.mean(0), codes.mean(0), atol=0.4, rtol=0)
    torch.testing.assert_close(drawn.std(0), codes.std(0), atol=0.2, rtol=0)
    assert bool((drawn[:, 2] == 7).all())  # a constant value stays constant
    assert abs(float((drawn[:, 0] > 20).float().mean()) - 1 / 3) < 0.01
    assert abs(float(drawn[drawn[:, 0] > 20][:, 1].std()) - 2) < 0.15
    assert torch.equal(mixture.sample(50), mixture.sample(50)) and not torch.equal(mixture.sample(5, 1), drawn[:5])
    assert fit_mixture(codes, 3).components == 3
    with pytest.raises(ConfigError, match="components=4: must be at most 3, the number of codes"):
        fit_mixture(codes[:3], 4)


def test_samples_of_the_prior_and_the_mixture(trained: Trained) -> None:
    run = open_run(trained(*VAE))
    codes = sample_codes(run, 4000)
    torch.testing.assert_close(codes.mean(0), torch.zeros(3), atol=0.06, rtol=0)
    torch.testing.assert_close(codes.std(0), torch.ones(3), atol=0.06, rtol=0)
    made = samples(run, 5, seed=3)
    assert made.shape == (5, 1, 28, 28) and torch.equal(made, samples(trained(*VAE), 5, seed=3))
    assert not torch.equal(made, samples(run, 5))
    images = images_of_test(run, 200).images
    means = run.encode(images)
    mixed = sample_codes(run, 4000, source="mixture", images=images)
    torch.testing.assert_close(mixed.mean(0), means.mean(0), atol=0.1, rtol=0.1)
    with pytest.raises(ConfigError, match="its latent has no prior"):
        samples(trained(*SPARSE), source="prior")


def test_new_codes_are_valid_codes(trained: Trained) -> None:
    run = open_run(trained(*SPARSE))
    codes = sample_codes(run, 20, images=images_of_test(run, 200).images)
    assert codes.shape == (20, 64) and int((codes != 0).sum(1).max()) <= 8
    dense = normals(6, 64)
    kept = nearest_valid_codes(run.autoencoder, dense)
    threshold = dense.sort(dim=1, descending=True).values[:, 7:8]
    assert torch.equal(kept, torch.where(dense >= threshold, dense, 0))
    sigmoid = open_run(trained("sparsity=kl"))
    assert torch.equal(nearest_valid_codes(sigmoid.autoencoder, 5 * dense), (5 * dense).clamp(0, 1))
    maps = open_run(trained(*MAPS))
    assert samples(maps, 3, images=images_of_test(maps, 64).images).shape == (3, 1, 28, 28)


def test_interpolations_end_at_the_reconstructions(trained: Trained) -> None:
    for options in (VAE, SPARSE, MAPS):
        run = open_run(trained(*options))
        first, last = read_image(run, "0"), read_image(run, "9")
        for is_spherical in (False, True):
            way = interpolate(run, first, last, 5, is_spherical=is_spherical)
            assert way.shape == (5, 1, 1, 28, 28)
            assert torch.equal(way[0], run.reconstruct(first)) and torch.equal(way[-1], run.reconstruct(last))
    run = open_run(trained(*VAE))
    middle = run.decode((run.encode(first) + run.encode(last)) / 2)
    torch.testing.assert_close(interpolate(run, first, last, 3)[1], middle)


def test_traversals_change_one_value_most_used_first(trained: Trained) -> None:
    run = open_run(trained(*VAE))
    images = images_of_test(run, 300).images
    features = run.autoencoder.encoder(images).double().detach().numpy()
    mean, log_variance = features[:, :3], features[:, 3:]
    divergence = (-0.5 * (1 + log_variance - mean**2 - np.exp(log_variance))).mean(0)
    found = traverse(run, images, images[:1], rows=2, steps=5, deviations=2)
    assert found.numbers == np.argsort(-divergence)[:2].tolist()
    assert found.units.kl is not None
    np.testing.assert_allclose(found.units.kl.numpy(), divergence, rtol=1e-4, atol=1e-6)
    assert np.array_equal(found.units.active.numpy(), mean.var(0) > 0.01)
    deviation = np.sqrt(mean.var(0) + np.exp(log_variance).mean(0))
    for row, number in enumerate(found.numbers):
        ends = mean.mean(0)[number] + np.array([-2, 2]) * deviation[number]
        np.testing.assert_allclose(found.values[row, [0, -1]].numpy(), ends, rtol=1e-4)
        code = run.encode(images[:1])
        code[0, number] = found.values[row, 1]
        torch.testing.assert_close(found.images[row, 1], run.decode(code)[0])
    plain = open_run(trained())
    codes = plain.encode(images)
    assert measure_units(plain, images).order[0] == int(codes.var(0).argmax())
    torch.testing.assert_close(traverse(plain, images, steps=3).images[4, 1], plain.decode(codes.mean(0)[None])[0])


def test_arithmetic_adds_codes(trained: Trained) -> None:
    run = open_run(trained())
    a, b, c = (read_image(run, str(number)) for number in (1, 2, 3))
    total = run.decode(run.encode(a) - run.encode(b) + run.encode(c))
    torch.testing.assert_close(arithmetic(run, [(1, a), (-1, b), (1, c)]), total)
    way = arithmetic(run, [(1, a), (-1, b), (1, c)], 4)
    torch.testing.assert_close(way[-1:], total)
    torch.testing.assert_close(way[:1], run.reconstruct(a))
    assert parse_terms(["a", "-", "b", "+", "c"]) == [(1, "a"), (-1, "b"), (1, "c")]
    assert parse_terms(["-", "a"]) == [(-1, "a")]
    for words in (["a", "b"], ["a", "+"], ["+", "-", "a", "b"]):
        with pytest.raises(ConfigError, match="is not a sum"):
            parse_terms(words)


@pytest.mark.parametrize("kind", ["normal", "grid"])
def test_the_emptiest_point_equals_a_dense_search(kind: str) -> None:
    points = normals(40, 2).double().numpy() * [1, 5]
    if kind == "grid":  # many circles of equal size
        points = np.stack(np.meshgrid([0.0, 1, 2, 6], [0.0, 1, 2, 3]), -1).reshape(-1, 2)
    low, high = points.min(0), points.max(0)
    axes = [np.linspace(low[i], high[i], 401) for i in (0, 1)]
    everywhere = np.stack(np.meshgrid(*axes), -1).reshape(-1, 1, 2)
    known = points
    for place in emptiest_points(points, 3):
        searched = np.sqrt(((everywhere - known) ** 2).sum(-1)).min(1).max()
        reached = np.sqrt(((place - known) ** 2).sum(-1)).min()
        assert (place >= low).all() and (place <= high).all()
        assert searched - 1e-9 <= reached <= searched + np.linalg.norm((high - low) / 400)
        known = np.concatenate([known, place[None]])


def test_empty_points_of_a_run(trained: Trained) -> None:
    for options in (PLANE, MAPS):
        run = open_run(trained(*options))
        images = images_of_test(run, 150).images
        found = find_empty_points(run, images, empty=2, random=3)
        codes = run.encode(images).flatten(1)
        assert found.images.shape == (5, 1, 28, 28) and found.distances.argmax() == 0
        if options == PLANE:
            assert found.plane.is_whole and np.array_equal(found.codes, codes.double().numpy())
            torch.testing.assert_close(found.images[:1], run.decode(torch.from_numpy(found.empty[:1]).float()))
        else:
            back = found.plane.points(found.plane.codes(found.empty))
            np.testing.assert_allclose(back, found.empty, atol=1e-3)
    errors = nearest_errors(images[3:4], images)
    assert float(errors[0]) < 1e-9
    far = nearest_errors(torch.ones(1, 1, 28, 28), images)
    torch.testing.assert_close(far[0], (1 - images).square().flatten(1).mean(1).min())


def test_frames_and_gifs(tmp_path: Path) -> None:
    frames = [np.full((6, 8), 20 * number, np.uint8) for number in range(5)]
    write_frames(tmp_path / "frames", frames)
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == [f"{n:04}.png" for n in range(5)]
    assert np.asarray(Image.open(tmp_path / "frames" / "0003.png")).tolist() == frames[3].tolist()
    back = there_and_back(frames)
    assert [int(frame[0, 0]) for frame in back] == [0, 20, 40, 60, 80, 60, 40, 20]
    write_gif(tmp_path / "a.gif", back, seconds=0.2)
    with Image.open(tmp_path / "a.gif") as picture_:
        assert (picture_.n_frames, picture_.info["duration"], picture_.info["loop"]) == (8, 200, 0)  # type: ignore[attr-defined]
        picture_.seek(4)
        assert int(np.asarray(picture_.convert("L"))[0, 0]) == 80
    assert there_and_back(frames[:1]) == frames[:1]


def command(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["aerun-generate", *words])
    return main()


def test_generate_writes_the_files_that_it_prints(
    tmp_path: Path, trained: Trained, drawings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae, plain, out = str(trained(*PLANE)), str(trained()), ["-o", str(tmp_path / "made")]
    both = ["--gif", "--frames"]
    assert command(["samples", vae, "-n", "5", *both, *out], monkeypatch) == 0
    assert command(["interpolate", plain, "3", str(drawings / "2.png"), "--steps", "4", *both, *out], monkeypatch) == 0
    assert command(["traverse", plain, "--rows", "2", "--steps", "3", *out], monkeypatch) == 0
    assert command(["arithmetic", plain, "3", "-", "4", "+", "5", "--steps", "3", *out], monkeypatch) == 0
    assert command(["compare", plain, vae, *out], monkeypatch) == 0
    made = {path.relative_to(tmp_path / "made").as_posix() for path in (tmp_path / "made").rglob("*.*")}
    assert made == {
        *(f"{name}.png" for name in ("samples", "interpolation", "traversal", "arithmetic", "compare")),
        *(f"samples/{number:04}.png" for number in range(5)),
        *(f"interpolation/{number:04}.png" for number in range(4)),
        "samples.gif",
        "interpolation.gif",
    }
    with Image.open(tmp_path / "made" / "interpolation.gif") as picture_:
        assert picture_.n_frames == 6  # type: ignore[attr-defined]


def test_the_given_images_are_drawn_next_to_the_decoded_ends(
    tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[tuple[str, torch.Tensor]] = []
    heads: list[str] = []

    def draw(drawn: list[tuple[str, torch.Tensor]], above: list[str]) -> np.ndarray:
        rows.extend(drawn)
        heads.extend(above)
        return np.zeros((9, 9, 3), np.uint8)

    monkeypatch.setattr("aerun.use.generation.drawings.draw_rows", draw)
    words = ["interpolate", str(trained()), "3", "4", "--steps", "5", "--neighbors", "-o", str(tmp_path)]
    assert command(words, monkeypatch) == 0
    run = open_run(trained())
    (_, straight), _, (_, real), (_, reconstructed) = rows
    assert heads == ["given", "0", "0.25", "0.5", "0.75", "1", "given"]
    assert len(straight) == len(real) == len(reconstructed) == 7
    errors = []
    for number, place, decoded in ((3, 0, 1), (4, -1, -2)):
        given = read_image(run, str(number))
        assert torch.equal(straight[place][None], given) and torch.equal(real[place][None], given)
        torch.testing.assert_close(straight[decoded], run.reconstruct(given)[0])
        torch.testing.assert_close(reconstructed[decoded], straight[decoded])
        assert (real[decoded] == 1).all() and (reconstructed[place] == 1).all()
        errors.append(f"{float((given - run.reconstruct(given)).square().mean()):.4f}")
    torch.testing.assert_close(run.reconstruct(real[2:-2]), reconstructed[2:-2])
    assert f"decoded ends: MSE {errors[0]} and {errors[1]} from the given images" in capsys.readouterr().out


def test_a_walk_goes_through_the_real_images_nearest_to_the_line(trained: Trained) -> None:
    """The least sum of distances over all choices of different images, tried one by one."""
    run = open_run(trained())
    images = images_of_test(run, 40).images
    first, last, others = images[:1], images[1:2], images[2:11]
    walk = walk_through_neighbors(run, first, last, images[:11], steps=5)
    a, b, codes = (run.encode(x).flatten(1).double().numpy() for x in (first, last, others))
    points = np.stack([a[0] + t * (b[0] - a[0]) for t in (0.25, 0.5, 0.75)])
    distances = np.sqrt(((points[:, None] - codes[None]) ** 2).sum(-1))
    best = min(itertools.permutations(range(9), 3), key=lambda rows: sum(distances[i, r] for i, r in enumerate(rows)))
    assert (walk.rows - 2).tolist() == list(best)
    np.testing.assert_allclose(walk.distances.numpy(), [distances[i, r] for i, r in enumerate(best)], rtol=1e-5)
    torch.testing.assert_close(walk.images, torch.cat([first, others[list(best)], last]))
    torch.testing.assert_close(walk.reconstructions, run.reconstruct(walk.images))
    every = run.encode(images[:11]).flatten(1).double().numpy()
    between = np.sqrt(((every[:, None] - every[None]) ** 2).sum(-1)) + 1e9 * np.eye(11)
    assert walk.usual == pytest.approx(float(np.median(between.min(1))), rel=1e-4)
    with pytest.raises(DataError, match="images: 9 other images for 10 steps between the ends"):
        walk_through_neighbors(run, first, last, images[:11], steps=12)
    with pytest.raises(DataError, match="first: 2 images where one is expected"):
        walk_through_neighbors(run, images[:2], last, images)


def test_invalid_arguments_are_one_line(
    tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, out = str(trained()), ["-o", str(tmp_path)]
    vectors = str(trained("dataset=random", "dataset.shape=[6]", "model.code_size=3"))
    for words, message in (
        (["samples", str(tmp_path)], "is not a run folder"),
        (["samples", plain, "--from", "prior"], "has no prior; use the mixture"),
        (["samples", str(trained(*PLANE)), "--components", "3"], "--components: applies only to the mixture"),
        (["samples", vectors], "must be gray or color images"),
        (["interpolate", plain, "0", "99999"], "test image 99999: must be less than 2000"),
        (["interpolate", plain, "0", "nowhere.png"], "nowhere.png: there is no such file or folder"),
        (["interpolate", plain, "0", "1", "--steps", "1"], "--steps 1: must be at least 2"),
        (["interpolate", plain, "0", str(tmp_path)], "is a folder; name an image file"),
        (["arithmetic", plain, "0", "1"], "is not a sum"),
        (["traverse", plain, "--deviations", "nan"], "'nan': must be a number above 0"),
        (["samples", plain, "--seed", "-1"], "must be a whole number from 0"),
    ):
        assert command([*words, *out], monkeypatch) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error


def test_comparing_runs_of_other_data_is_a_warning(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def enough(*_: object) -> None:
        raise ConfigError("enough")

    monkeypatch.setattr("aerun.use.maps.code_maps.empty_regions", enough)
    runs = [str(trained(*PLANE)), str(trained("dataset=random", "dataset.shape=[1,28,28]"))]
    for words, warned in ((runs[:1] * 2, False), (runs, True)):
        assert command(["compare", *words, "-o", str(tmp_path / "out")], monkeypatch) == 1
        assert (f"{runs[1]}: was trained on other data than {runs[0]}" in caplog.text) is warned


def test_missing_data_are_an_error(trained: Trained, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(trained(), tmp_path / "run")
    about = tmp_path / "run" / "environment.json"
    checksum = open_run(trained()).data.checksum
    about.write_text(about.read_text().replace(checksum, "another"))
    with pytest.raises(DataError, match="its data have changed: checksum another then"):
        images_of_test(open_run(tmp_path / "run"), 3)


def test_the_parser_knows_its_kinds() -> None:
    assert isinstance(build_parser(), Parser)
    asked = build_parser().parse_args(["interpolate", "RUN", "a", "b", "-o", "made"])
    assert (asked.kind, asked.steps, asked.path) == ("interpolate", 11, "both")
