"""The language of conditions, compared with Python's own evaluation of the same condition."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from aerun.compare.conditions import MAX_LENGTH, Language, Values
from aerun.errors import ConfigError

VALUES: dict[str, Any] = {
    "model": "fc",
    "model.code_size": 32.0,
    "model.hidden": "[64, 32]",
    "model.tied": True,
    "sparsity": "topk",
    "sparsity.k": 4.0,
    "loss": "mse",
    "optimizer.lr": 0.001,
    "trainer.monitor": "loss",
    "test/mse": 0.02,
    "stage1/test/mse": 0.5,
    "seed": 0.0,
}
LANGUAGE = Language([*VALUES, "sparsity.rho", "test/other"])


def holds(text: str, values: Values = VALUES) -> bool:
    return LANGUAGE.parse(text).holds(values)


@pytest.mark.parametrize(
    "text",
    [
        "model.code_size<=64",
        "model.code_size<=sparsity.k*8",
        "model.code_size = sparsity.k*8",
        "model.code_size == 8*sparsity.k",
        "sparsity.k*8 = model.code_size",
        "(model.code_size - 2)*2 >= 60",
        "model.code_size/sparsity.k < 9 and sparsity.k>-1",
        "model.code_size / sparsity.k = 8",
        "test/mse*2<stage1/test/mse",
        "test/mse<1e-1 and test/mse > .01",
        "test/mse/2<=0.01",
        "not test/mse>1",
        "not(test/mse>1 or seed=1)",
        "model=fc or model=conv and seed=1",
        "(model=fc or model=conv) and seed=0",
        "model in fc,conv",
        "model in (fc, conv) and loss in [mse,bce]",
        "model not in (conv, vae)",
        "seed in [0,1]",
        "seed=0,1,2",
        "model.hidden=[64,32]",
        "model.hidden in [[64,32],[8]]",
        "model.tied=true",
        "model.tied!=false",
        "model='fc'",
        'model="fc" and loss != "bce"',
        "trainer.monitor=loss",  # text, although there is a key of that name
        "optimizer.lr=1e-3",
        "optimizer.lr*10=0.01",
        "sparsity.rho=null",
        "sparsity.rho!=1",
        "model != conv , vae",
        "seed<inf",
        "seed=-0",
    ],
)
def test_what_holds(text: str) -> None:
    assert holds(text)
    assert not holds(f"not ({text})")


@pytest.mark.parametrize(
    "text",
    [
        "sparsity.rho<1",
        "sparsity.rho>=0",
        "sparsity.rho=sparsity.rho",
        "sparsity.rho+1>0",
        "model<1",
        "model.tied<2",
        "seed/seed=1",
        "model.code_size<=sparsity.rho*8",
        "test/other<1",
        "model=f c",
        "model.hidden=[64]",
    ],
)
def test_a_comparison_with_what_is_missing_or_no_number_is_false(text: str) -> None:
    assert not holds(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("modle=fc", "no run has modle. Did you mean 'model'?"),
        ("sparsity.kk*8>=3", "no run has sparsity.kk. Did you mean 'sparsity.k'?"),
        ("model.code_size<=sparsity.kk*8", "'sparsity.kk*8' is not a number"),
        ("seed<many", "'many' is not a number"),
        ("model", "must be key=value"),
        ("", "must be key=value"),
        ("=3", "must be key=value"),
        ("model=fc and", "no"),
        ("model=fc and (seed)", "must be key=value"),
        ("(model=fc", "must be key=value"),
        ("2**3<seed", "no run has"),
        ("__import__('os').system('x')=1", "no run has"),
        ("seed<__import__('os')", "is not a number"),
        ("seed<9**9**9**9", "is not a number"),
        ("seed<(1,2)", "is not a number"),
        ("seed<" + "-" * MAX_LENGTH, "is longer than"),
        ("(" * 900, "must be key=value"),
        ("not " * 240 + "seed=1", ""),
    ],
)
def test_what_cannot_be_read_is_an_error_of_one_line(text: str, says: str) -> None:
    if not says:
        assert isinstance(holds(text), bool)
        return
    if says == "no":  # an unfinished word belongs to the value
        assert not holds(text)
        return
    with pytest.raises(ConfigError) as error:
        holds(text)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_the_keys_that_are_read() -> None:
    assert LANGUAGE.parse("model.code_size<=sparsity.k*8 and not loss=bce").keys == {
        "model.code_size",
        "sparsity.k",
        "loss",
    }


def test_random_conditions_are_what_python_makes_of_them() -> None:
    """Python's eval is the oracle; the language has none."""
    draw = random.Random(0)
    numbers = {"a.x": 3.0, "a.y": -2.0, "b.z": 0.5, "b.w": 4.0}
    texts = {"g": "one", "h": "two"}
    language = Language([*numbers, *texts])

    def arithmetic(depth: int) -> str:
        if depth == 0 or draw.random() < 0.3:
            return draw.choice([*numbers, "2", "0.25", "7"])
        inner = f"{arithmetic(depth - 1)}{draw.choice(['+', ' - ', '*', ' / '])}{arithmetic(depth - 1)}"
        return f"({inner})" if draw.random() < 0.5 else inner

    def condition(depth: int) -> str:
        if depth == 0 or draw.random() < 0.2:
            if draw.random() < 0.3:
                sign, value = draw.choice(["=", "==", " != "]), draw.choice(["one", "two", "three"])
                return f"{draw.choice(list(texts))}{sign}{value}"
            return f"{draw.choice(list(numbers))}*1{draw.choice(['<', '<=', ' > ', '>='])}{arithmetic(2)}"
        if draw.random() < 0.2:
            return f"not ({condition(depth - 1)})"
        return f"({condition(depth - 1)}) {draw.choice(['and', 'or'])} {condition(depth - 1)}"

    seen = {True: 0, False: 0}
    for _ in range(500):
        text = condition(3)
        python = re.sub(r"(?<![<>=!])=(?!=)", "==", text)
        python = re.sub(r"\b(one|two|three)\b", r"'\1'", python)
        for name, value in {**numbers, **texts}.items():
            python = re.sub(rf"(?<![\w.']){re.escape(name)}(?![\w.'])", f"({value!r})", python)
        try:
            expected = bool(eval(python))
        except ZeroDivisionError:
            continue
        assert language.parse(text).holds({**numbers, **texts}) == expected, (text, python)
        seen[expected] += 1
    assert min(seen.values()) > 100
