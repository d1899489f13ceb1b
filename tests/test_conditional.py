"""Conditional models: passes against closed forms, labels wherever a model is used, and images by class."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

import aerun
from aerun.cli import generate
from aerun.config.explain import compose_explained
from aerun.config.parse import parse
from aerun.core.autoencoder import LABELS, LATENT, Autoencoder, objective
from aerun.dataset.data import Arrays, Data, Resident, Split, first_batch
from aerun.errors import AerunError, ConfigError, DataError
from aerun.metrics.evaluation import Evaluation, evaluate
from aerun.model.conditional import conditional
from aerun.model.spec import Codec
from aerun.runs.init_from import copy_matching_layers
from aerun.runs.reopen import reevaluate
from aerun.runs.run import run
from aerun.training.batches import Streamed
from aerun.training.build import build_autoencoder, build_parts
from tests.keys import FITTING, PLAIN, needed
from tests.test_options import options, two_steps

Compose = Callable[[Sequence[str]], dict[str, Any]]
CPU = torch.device("cpu")
RANDOM = ["dataset=random", "dataset.images=40", "trainer.device=cpu", "trainer.threads=1"]
TINY = [
    *("dataset.train_limit=300", "dataset.validation=100", "trainer.epochs=2", "trainer.device=cpu"),
    *("trainer.threads=1", "trainer.pictures=1"),
]
VAE = ["model=fc_vae", "model.hidden=[24]", "model.code_size=4", "model.condition=label"]
REFUSING = {
    **{"fully_conv": "condition=label", "modules": "model.condition", "pretrained": "model.condition=label"},
    "unet": "condition=label",
}
LABELS_3 = torch.tensor([0, 2, 1, 2, 0])


def built(compose: Compose, *words: str, classes: int = 3, shape: tuple[int, ...] = (1, 6, 7)) -> Autoencoder:
    settings = parse(compose([*words, "model.condition=label"]))
    images = torch.zeros(classes, *shape)
    split = Split(images, images, torch.arange(classes))
    torch.manual_seed(0)
    return build_autoencoder(settings, Data(split, None, split, None, "")).double()


@pytest.fixture(scope="module")
def trained(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conditional VAE of the ten classes of the default data set."""
    folder = tmp_path_factory.mktemp("vae")
    config = compose([*TINY, *VAE, "protocol=ssim"])
    run(parse(config), config, folder, overrides=VAE)
    return folder


# One pass.


def concatenated(model: Autoencoder, x: np.ndarray, labels: Tensor) -> tuple[np.ndarray, ...]:
    """One linear layer on each side of [x; c] and [code; c], image by image: codes, outputs, and the gradients of the
    mean squared error with respect to U of the encoder and of the decoder."""
    condition = model.condition
    weight, bias = (value.detach().numpy() for value in model.encoder[1].parameters())  # type: ignore[index]
    back, offset = (value.detach().numpy() for value in model.decoder[0].parameters())  # type: ignore[index]
    to_code, to_image = (layer.weight.detach().numpy() for layer in (condition.encoder, condition.decoder))  # type: ignore
    embedding = condition.embedding  # type: ignore[union-attr]
    table = np.eye(3) if embedding is None else embedding.weight.detach().numpy()  # type: ignore[union-attr]
    codes, outputs, of_encoder, of_decoder = [], [], np.zeros_like(to_code), np.zeros_like(to_image)
    for image, label in zip(x, labels.tolist(), strict=True):
        c = table[label]
        code = np.concatenate([weight, to_code], 1) @ np.concatenate([image, c]) + bias
        output = np.concatenate([back, to_image], 1) @ np.concatenate([code, c]) + offset
        slope = 2 * (output - image) / x.size
        of_decoder += np.outer(slope, c)
        of_encoder += np.outer(back.T @ slope, c)
        codes.append(code)
        outputs.append(output)
    return np.array(codes), np.array(outputs), of_encoder, of_decoder


@pytest.mark.parametrize("size", ["null", "2"])
def test_one_layer_is_that_of_the_concatenated_input(compose: Compose, size: str) -> None:
    model = built(compose, "model=fc", "model.code_size=5", "model.activation=identity", f"model.condition_size={size}")
    x = torch.rand(5, 1, 6, 7, generator=torch.Generator().manual_seed(1)).double()
    codes, outputs, of_encoder, of_decoder = concatenated(model, x.flatten(1).numpy(), LABELS_3)
    result = model(x, {LABELS: LABELS_3})
    F.mse_loss(result.prediction, x).backward()
    close = {"rtol": 1e-12, "atol": 1e-14}
    np.testing.assert_allclose(result.code.detach(), codes, **close)
    np.testing.assert_allclose(result.prediction.detach().flatten(1), outputs, **close)
    np.testing.assert_allclose(model.condition.encoder.weight.grad, of_encoder, **close)  # type: ignore[union-attr]
    np.testing.assert_allclose(model.condition.decoder.weight.grad, of_decoder, **close)  # type: ignore[union-attr]
    np.testing.assert_allclose(model.encode(x, LABELS_3), codes, **close)
    np.testing.assert_allclose(model.decode(codes, LABELS_3.numpy()).flatten(1), outputs, **close)
    np.testing.assert_allclose(model.reconstruct(x, LABELS_3.tolist()).flatten(1), outputs, **close)


def test_a_convolution_adds_constant_channels_that_padding_continues() -> None:
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.ReLU())
    decoder = torch.nn.Sequential(torch.nn.ConvTranspose2d(4, 2, 3, padding=1))
    model = conditional(Codec(encoder, decoder, (4, 5, 6)), 3, None, "default", 0.0)
    x, kernel = torch.rand(5, 2, 5, 6), torch.randn(4, 3, 3, 3)
    assert model.condition is not None
    model.condition.encoder.weight.data = kernel.sum((2, 3))  # type: ignore[union-attr]
    channels = F.one_hot(LABELS_3, 3).float()[:, :, None, None].expand(-1, -1, 7, 8)
    both = torch.cat([F.pad(x, (1, 1, 1, 1)), channels], 1)
    first = encoder[0]
    expected = F.conv2d(both, torch.cat([first.weight, kernel], 1), first.bias).relu()
    found = model.encoder(x, model.condition(LABELS_3)[0])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(model.encoder.given(model.condition(LABELS_3)[0])(x), expected)  # type: ignore[operator]


@pytest.mark.parametrize("scheme", ["default", "kaiming", "xavier", "normal"])
def test_weights_of_the_condition_are_as_those_of_the_concatenated_layer(compose: Compose, scheme: str) -> None:
    words = [
        "model=fc",
        "model.code_size=400",
        f"model.init={scheme}",
        *(["model.init_std=0.02"] * (scheme == "normal")),
    ]
    weight = built(compose, *words, classes=60, shape=(1, 28, 28)).condition.encoder.weight  # type: ignore[union-attr]
    fan_in, units = 784 + 60, 400
    deviation = {
        "default": 1 / math.sqrt(3 * fan_in),
        "kaiming": math.sqrt(2 / fan_in),
        "xavier": math.sqrt(2 / (fan_in + units)),
        "normal": 0.02,
    }[scheme]
    assert weight.shape == (units, 60)
    assert float(weight.detach().std()) == pytest.approx(deviation, rel=0.03)


def test_each_image_depends_on_its_own_label_alone(compose: Compose) -> None:
    """Also of k codes drawn for each image, and with a term that decodes in addition."""
    for words in (
        ["model=vae"],
        ["model=fc_vae", "latent=importance_weighted", "latent.samples=3"],
        ["model=conv_deep", "model.width=8"],
        ["model=fc", "regularizer=rae_gp"],
    ):
        model = built(compose, *words, shape=(1, 20, 20))
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(5, 1, 20, 20, generator=generator).double()
        extras: dict[str, Tensor] = {LABELS: LABELS_3}
        draw = model.draw(5, generator)
        if draw is not None:
            extras[LATENT] = draw.double()
        whole = model(x, extras)
        loss = parse(compose(words)).loss
        further = {**model.draw_extras(5, lambda name: torch.Generator().manual_seed(1)), **extras}
        terms = objective(whole, x, model, loss, further)
        given = objective(whole, x, model.given(LABELS_3), loss, further)
        assert torch.isfinite(terms["loss"]) and torch.equal(terms["loss"], given["loss"])
        for row in range(5):
            one = {name: value[row : row + 1] for name, value in extras.items()}
            torch.testing.assert_close(model(x[row : row + 1], one).logits[0], whole.logits[row])
        other = model(x, {**extras, LABELS: (LABELS_3 + 1) % 3})
        assert not torch.isclose(other.code, whole.code).flatten(1).all(1).any()


def test_a_view_for_some_labels_is_the_model(compose: Compose) -> None:
    model = built(compose, "model=fc", "model.hidden=[9]")
    x = torch.rand(5, 1, 6, 7).double()
    given = model.given(LABELS_3)
    assert torch.equal(given.encode(x), model.encode(x, LABELS_3)) and given.classes is None
    assert torch.equal(model.given(torch.tensor([2])).encode(x), model.encode(x, 2))
    assert dict(given.named_parameters()).keys() < dict(model.named_parameters()).keys()
    assert all(value is model.get_parameter(name) for name, value in given.named_parameters())
    with pytest.raises(ValueError, match="3 labels for 5 images"):
        model.given(LABELS_3[:3]).encode(x)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, r"conditional \(model.condition=label\): it needs the labels"),
        ([0, 1, 3, 0, 0], "labels: 3 is not a label of this model. Allowed: 0 to 2"),
        ([0, -1, 0, 0, 0], "labels: -1 is not"),
        ([0, 1], "2 labels for 5 images"),
        ([0.0] * 5, "must be whole numbers"),
        (7, "labels: 7 is not a label"),
    ],
)
def test_labels_that_a_model_does_not_take_are_refused_in_a_line(compose: Compose, labels: Any, message: str) -> None:
    model = built(compose, "model=fc")
    images, codes = torch.rand(5, 1, 6, 7), torch.rand(5, 64)
    for call in (lambda: model.encode(images, labels), lambda: model.decode(codes, labels)):
        with pytest.raises(ValueError, match=message) as refusal:
            call()
        assert "\n" not in str(refusal.value)
    if labels is None:
        with pytest.raises(ValueError, match=message):
            model(images.double())


def test_a_model_without_condition_takes_no_labels() -> None:
    from tests.doctor.models import pca_autoencoder, pictures

    model = pca_autoencoder()
    assert model.given(LABELS_3) is model and model.given(None) is model and model.classes is None
    with pytest.raises(ValueError, match="not conditional"):
        model.encode(pictures(5), LABELS_3)


# Every option.


@pytest.mark.parametrize("model", options("model"))
@pytest.mark.parametrize("size", ["null", "3"])
def test_every_model_has_a_condition_or_refuses_it(compose: Compose, model: str, size: str) -> None:
    if model in REFUSING:
        with pytest.raises(AerunError, match=REFUSING[model]) as refusal:
            words = [*RANDOM, f"model={model}", "model.condition=label", *needed(model)]
            two_steps(compose_explained(words)[0])
        assert "\n" not in str(refusal.value)
        return
    assert two_steps(compose([*RANDOM, f"model={model}", "model.condition=label", f"model.condition_size={size}"]))


@pytest.mark.parametrize(
    "words",
    [
        *([f"latent={latent}", *FITTING.get(latent, [])] for latent in options("latent")),
        *([f"sparsity={name}", *(["sparsity.k=2"] * ("topk" in name))] for name in options("sparsity")),
        *([f"regularizer={name}"] for name in options("regularizer")),
        ["noise=gaussian", "regularizer=decorrelation"],
        ["model.tied=true"],
        ["model.hidden=[]", "model.unit_norm_decoder=true", "model.decoder_init=transpose", "model.pre_bias=true"],
        ["model.output_bias=mean", "dataset.normalize=standardise"],
        ["dataset.flip=true"],
        ["dataset.binarise=dynamic"],
        ["trainer.precision=bfloat16"],
    ],
    ids=" ".join,
)
def test_parts_work_with_a_condition_or_name_both(compose: Compose, words: list[str]) -> None:
    refused = {"latent=vamp", "regularizer=aux_k", "regularizer=decorrelation"}
    config = [*RANDOM, "model=mlp", "model.output_activation=identity", *words, "model.condition=label"]
    if words[0] in refused:
        with pytest.raises(AerunError, match="model.condition=label" if "decor" not in words[0] else "noise"):
            two_steps(compose(config))
    else:
        two_steps(compose(config))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trainer=greedy", "model=fc_deep"], "trainer=greedy and model.condition=label"),
        (["protocol=linear_svm"], "protocol.linear_svm: model.condition=label"),
        (["protocol=samples"], r"protocol.samples: sources=\[mixture\]"),
    ],
)
def test_what_needs_no_labels_is_refused_before_training(
    compose: Compose, tmp_path: Path, words: list[str], message: str
) -> None:
    config = compose([*TINY, "model.condition=label", *words])
    with pytest.raises(ConfigError, match=message) as refusal:
        run(parse(config), config, tmp_path / "run")
    assert "\n" not in str(refusal.value)


def test_data_without_labels_are_refused_before_training(compose: Compose, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((60, 1, 8, 8), np.float32))
    config = compose([*TINY[2:], f"dataset.root={tmp_path / 'x.npy'}", "dataset=array", "model.condition=label"])
    with pytest.raises(ConfigError, match=r"model\.condition=label and dataset=.*label of every image") as refusal:
        run(parse(config, {"dataset": "array"}), config, tmp_path / "run")
    assert "\n" not in str(refusal.value)


def test_a_size_of_no_condition_is_an_unread_key(compose: Compose) -> None:
    with pytest.raises(ConfigError, match=r"model\.condition_size"):
        parse(compose(["model.condition_size=3"]), overrides=["model.condition_size=3"])


# Labels travel with their images.


def numbered(count: int) -> np.ndarray:
    return np.stack([np.arange(count) % 256, np.arange(count) // 256], 1).astype(np.uint8).reshape(count, 1, 2, 1)


def numbers(images: Tensor) -> Tensor:
    pair = images.flatten(1).long()
    return pair[:, 0] + 256 * pair[:, 1]


def test_batches_have_the_labels_of_their_images() -> None:
    """From memory and from a file, in any epoch, from any batch on, also where a batch comes from several chunks."""
    from tests.test_streaming import Given

    images = numbered(997)
    arrays = Arrays(images, images[:10], np.arange(997), np.arange(10))
    data = Given(arrays=arrays, **{**PLAIN, "memory_limit": 500, "validation": 0.3}).load(CPU)
    assert data.streamed
    resident = Given(arrays=arrays, **{**PLAIN, "validation": 0.3}).load(CPU)
    sources = [Streamed(data.train, 100, 5, CPU, chunk, True) for chunk in (41, 500, 16_000)]
    for source in (*sources, Resident(resident.train, 100, 5, True)):
        for epoch, start in ((0, 0), (1, 3)):
            found = list(source.epoch(epoch, start))
            assert sum(map(len, found)) == 698 - 100 * start
            for batch in found:
                assert batch.labels is not None and torch.equal(batch.labels, numbers(batch.inputs))
    assert next(Resident(resident.train, 100, 5).epoch(0)).labels is None
    assert torch.equal(first_batch(resident.train, 7).labels, resident.train.labels[:7])  # type: ignore[arg-type,index]


def test_the_number_of_classes_comes_from_the_data() -> None:
    def data(train: list[int] | None, test: list[int] | None, classes: list[str] | None = None) -> Data:
        parts = [
            Split(torch.zeros(2, 3), torch.zeros(2, 3), None if t is None else torch.tensor(t)) for t in (train, test)
        ]
        return Data(parts[0], None, parts[1], classes, "")

    assert data([0, 2], [5, 1]).label_count == 6
    assert data([0, 2], [0, 1], ["a"] * 9).label_count == 9
    assert data(None, [0, 1]).label_count is None and data([0, -1], [0, 1]).label_count is None


def test_evaluation_gives_every_image_its_label(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aerun.metrics.evaluation.BATCH", 7)
    settings = parse(compose([*RANDOM, *VAE]))
    parts = build_parts(settings, settings.dataset.load(CPU), CPU)
    test = parts.data.test
    inputs = test.inputs[:].float() / 255
    assert isinstance(test.labels, Tensor) and len(test.labels.unique()) > 2
    errors = [
        float((parts.autoencoder.reconstruct(inputs[i : i + 1], int(test.labels[i])) - inputs[i]).square().mean())
        for i in range(len(inputs))
    ]
    found = evaluate(parts.autoencoder, test, settings.noise, settings.loss)
    assert found["mse"] == pytest.approx(np.mean(errors), rel=1e-5)
    batches = Evaluation(test, settings.noise, settings.loss).given(parts.autoencoder)
    codes = torch.cat([model.encode(images) for model, images, _ in batches])
    torch.testing.assert_close(codes, parts.autoencoder.encode(inputs, test.labels))


def test_compiled_and_recorded_steps_get_labels(compose: Compose) -> None:
    """The step's own function of labels, as it is compiled and recorded."""
    from aerun.training.step import make_step

    settings = parse(compose([*RANDOM, *VAE]))
    parts = build_parts(settings, settings.dataset.load(CPU), CPU)
    step = make_step(parts, learning_rate=lambda number: 1.0)
    batch = first_batch(parts.data.train, 12)
    inputs, _, extras = step.prepare(batch, 0)
    assert torch.equal(extras[LABELS], batch.labels) and len(inputs) == 12  # type: ignore[arg-type]
    before = step.gradients(inputs, inputs, extras).terms["loss"]
    moved = step.gradients(inputs, inputs, {**extras, LABELS: (extras[LABELS] + 1) % 10}).terms["loss"]
    assert before != moved


# Runs.


@pytest.mark.parametrize(
    "words",
    [
        VAE,
        ["model=conv", "model.condition=label", "model.condition_size=3", "noise=gaussian"],
        ["model=mlp", "model.condition=label", "dataset.memory_limit=300KiB"],
    ],
    ids=" ".join,
)
def test_runs_resume_bit_for_bit_and_evaluate_again(compose: Compose, tmp_path: Path, words: list[str]) -> None:
    config = compose([*TINY, *words])
    summary = run(parse(config), config, tmp_path / "whole")
    shorter = compose([*TINY, *words, "trainer.epochs=1"])
    run(parse(shorter), shorter, tmp_path / "parts")
    again = run(parse(config | {"resume": str(tmp_path / "parts")}), config, tmp_path / "parts")
    assert again["test"] == summary["test"]
    one, other = (load_file(tmp_path / name / "checkpoints" / "last.safetensors") for name in ("whole", "parts"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert reevaluate(tmp_path / "whole")["differs_from_summary"] == []


def test_a_loaded_model_takes_labels(trained: Path) -> None:
    model, data = aerun.load(trained), json.loads((trained / "environment.json").read_text())["dataset"]
    images = torch.rand(3, 1, 28, 28)
    assert model.classes == data["classes"] == 10
    codes = model.encode(images, [1, 2, 3])
    assert torch.equal(model.decode(codes, labels=[1, 2, 3]), model.reconstruct(images, [1, 2, 3]))
    assert not torch.allclose(codes, model.encode(images, 0))
    mean, _ = model.posterior(images, [1, 2, 3])
    assert torch.equal(mean, codes)
    with pytest.raises(ValueError, match="needs the labels"):
        model.encode(images)


def test_a_configuration_without_the_keys_is_one_without_a_condition(compose: Compose, tmp_path: Path) -> None:
    config = compose([*TINY, "model=fc"])
    run(parse(config), config, tmp_path)
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    del written["model"]["condition"], written["model"]["condition_size"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(written))
    facts = json.loads((tmp_path / "environment.json").read_text())
    del facts["dataset"]["classes"]
    (tmp_path / "environment.json").write_text(json.dumps(facts))
    assert aerun.load(tmp_path).condition is None
    assert reevaluate(tmp_path)["differs_from_summary"] == []


def test_other_commands_refuse_a_conditional_run_in_a_line(trained: Path, tmp_path: Path) -> None:
    images = torch.rand(2, 1, 28, 28)
    for call in (
        lambda: aerun.embed(trained, tmp_path),
        lambda: aerun.interpolate(trained, images, images),
        lambda: aerun.latent_map(trained),
        lambda: aerun.export(trained, tmp_path / "out"),
    ):
        with pytest.raises(DataError, match="conditional") as refusal:
            call()
        assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_an_export_of_weights_loads_with_its_labels(trained: Path, tmp_path: Path) -> None:
    aerun.export(trained, tmp_path / "out", ["safetensors"])
    images = torch.rand(2, 1, 28, 28)
    assert torch.equal(aerun.load(tmp_path / "out").encode(images, [4, 5]), aerun.load(trained).encode(images, [4, 5]))
    assert "labels" in (tmp_path / "out" / "README.md").read_text()


def test_another_run_starts_from_its_weights(compose: Compose, trained: Path) -> None:
    settings = parse(compose([*TINY, *VAE]))
    model = build_parts(settings, settings.dataset.load(CPU), CPU).autoencoder
    copy_matching_layers(trained, model)
    before = aerun.load(trained).state_dict()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# Images by class.


def test_samples_of_a_class_are_decoded_with_its_label(trained: Path) -> None:
    model = aerun.load(trained)
    generator_codes = [aerun.samples(trained, 5, label=label) for label in (3, 7)]
    from aerun.use.generation.sampling import sample_codes
    from aerun.use.opened_run import open_run

    codes = sample_codes(open_run(trained, conditional=True), 5)
    for label, images in zip((3, 7), generator_codes, strict=True):
        torch.testing.assert_close(images, model.decode(codes, label))
    with pytest.raises(ConfigError, match="name a label, 0 to 9"):
        aerun.samples(trained, 5)
    with pytest.raises(DataError, match="labels: 10 is not a label"):
        aerun.samples(trained, 5, label=10)
    assert aerun.samples(trained, 4, source="mixture", label=2).shape == (4, 1, 28, 28)


def test_the_command_writes_a_class_or_a_row_per_class(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["aerun-generate", "samples", str(trained), "-o", str(tmp_path), *words])
        return generate.main()

    from PIL import Image

    assert command("--label", "3", "-n", "6", "--frames") == 0
    assert len(list((tmp_path / "samples").iterdir())) == 6
    assert command("-n", "4", "--overwrite") == 0
    with Image.open(tmp_path / "samples.png") as rows:
        assert rows.height >= 10 * 28
    assert command("--label", "12", "--overwrite") == 1
    assert command("--gif", "--overwrite") == 1
    errors = capsys.readouterr().err
    assert "labels: 12 is not a label of this model. Allowed: 0 to 9" in errors and "add --label K" in errors


def test_the_picture_of_samples_has_a_row_per_class(trained: Path) -> None:
    from aerun.runs.pictures import decode_classes

    model = aerun.load(trained)
    codes = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    found = decode_classes(model, codes, 16)
    assert found.shape == (160, 1, 28, 28)
    torch.testing.assert_close(found[32:48], model.decode(codes[:16], 2))


# The doctor.


@pytest.mark.parametrize(
    ("model", "remedy"),
    [
        (["model=mlp", "model.code_size=64", "trainer.epochs=8", "optimizer.lr=2e-3"], "model.code_size=8"),
        (["model=conv", "trainer.epochs=4", "optimizer.lr=3e-3"], "model.code_size=16 latent=gaussian"),
    ],
)
def test_the_remedy_for_a_class_in_the_code_lets_the_label_be_used(
    compose: Compose, tmp_path: Path, model: list[str], remedy: str
) -> None:
    words = [*TINY, "dataset.train_limit=1500", "dataset.validation=300", "model.condition=label"]
    words += ["trainer.batch_size=32", *model]
    found: dict[str, Any] = {}
    for name in ("wide", "narrow"):
        config = compose(words)
        run(parse(config), config, tmp_path / name, overrides=words)
        found[name] = aerun.diagnose(tmp_path / name, device="cpu")
        remedies = [verdict.remedy for verdict in found[name].verdicts if verdict.name == "class copied by the code"]
        assert remedies == ([remedy] if name == "wide" else [])
        words = [*words, *(word for typed in remedies for word in typed.split())]
    wide, narrow = (found[name].examination.fit.relabeled for name in ("wide", "narrow"))
    assert wide < 0.05 < 0.1 < narrow < 1


def test_relabeling_is_measured_against_the_distance_of_classes(compose: Compose) -> None:
    """1 for a decoder of the label alone, 0 for one that ignores it; the model says so by itself, too."""
    model = built(compose, "model=fc", "model.code_size=5", "model.activation=identity").float()
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (64,), generator=generator)
    x = torch.rand(64, 1, 6, 7, generator=generator)
    for network, expected in (("encoder", 1.0), ("decoder", 0.0)):
        model = built(compose, "model=fc", "model.code_size=5", "model.activation=identity").float()
        weight = model.decoder[0].weight if network == "encoder" else model.condition.decoder.weight  # type: ignore
        weight.data.zero_()
        measured = aerun.diagnose_model(model, x, labels=labels)
        assert measured.examination.fit is not None
        assert measured.examination.fit.relabeled == pytest.approx(expected, abs=1e-5)
        if network == "encoder":
            assert "codes ignored by the decoder" in [verdict.name for verdict in measured.verdicts]
    with pytest.raises(ValueError, match="needs the labels"):
        aerun.diagnose_model(model, x)
