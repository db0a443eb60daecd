"""The evaluator of `chunkarr calc`: what NumPy would say, or an error that points at the place.

The evaluator itself is tested on NumPy's namespace, where Python's `eval` is the oracle.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chunkarr
from chunkarr import calc
from chunkarr.calc import evaluate
from chunkarr.errors import ExpressionError, NotYetError

ARRAYS: dict[str, Any] = {
    "a": np.arange(12.0).reshape(3, 4),
    "b": np.linspace(-1, 1, 4),
    "n": np.arange(4),
    "mask": np.array([True, False, True]),
}
NAMESPACE: dict[str, Any] = {**vars(np), "np": np, "numpy": np, **ARRAYS}


@pytest.fixture
def _numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calc, "chunkarr", np)


@pytest.mark.usefixtures("_numpy")
@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a + b * 2 - 1 / (b + 3)",
        "a // 2 % 3 ** 2",
        "-a + +b",
        "a @ b",
        "n & 1 | 2 ^ 3",
        "~mask",
        "n << 1 >> 2",
        "a > 3",
        "(a >= 3) & (a != 5)",
        "a == b",
        "a[0]",
        "a[-1, 1:]",
        "a[1:, ::2]",
        "a[:, None] * a[np.newaxis, ..., :1]",
        "a[mask]",
        "a[[0, 2]]",
        "a[a > 3]",
        "a.T",
        "a.shape[0] * 2",
        "a.astype(float32)",
        "a.astype('int8').sum(axis=0, dtype=np.int64)",
        "a.sum(axis=(0, 1), keepdims=True)",
        "sqrt(a).mean(0)",
        "np.sqrt(a)",
        "numpy.where(a > 3, a, nan)",
        "where(a > 3, a, -np.inf)",
        "linalg.norm(a, axis=1)",
        "np.linalg.norm(a)",
        "np.fft.rfft(b)",
        "einsum('ij,j->i', a, b)",
        "concatenate([a, a * 2], axis=1)",
        "np.stack((b, b))",
        "divmod(n, 3)[1]",
        "a.std(ddof=1)",
        "pi * e",
        "np.float32(3) * n",
        "int8(3)",
        "max(a) - min(a)",
        "a.max(axis=1).round(1)",
        " a\n  + a",
        "clip(a, None, 5)",
        "1j * b",
        "a.T.T.sum()",
        "np.zeros((2, 3), dtype=bool)",
        "2 ** 10",
        "2 ** -1",
    ],
)
def test_an_expression_has_the_value_that_numpy_gives(text: str) -> None:
    found = evaluate(text, ARRAYS)
    expected = eval(f"({text})", dict(NAMESPACE))
    np.testing.assert_array_equal(found, expected)
    assert np.asarray(found).dtype == np.asarray(expected).dtype


@pytest.mark.usefixtures("_numpy")
@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("0 < a < 3", 0, r"\(x < y\) & \(y < z\)"),
        ("a + (a and b)", 5, "&"),
        ("not a", 0, "~"),
        ("1 in a", 0, "isin"),
        ("a is None", 0, "x == y"),
        ("a if mask else b", 0, "where"),
        ("lambda: 1", 0, "defined"),
        ("(a := b)", 1, "assigned"),
        ("[x for x in a]", 0, "loops"),
        ("{1: a}", 0, "dictionaries"),
        ("{a}", 0, "sets"),
        ("f'{a}'", 0, "formatted"),
        ("b'a'", 0, "Constant"),
        ("'x' * 9", 0, "str"),
        ("[0] * 1000000000", 0, "list"),
        ("None + 1", 0, "NoneType"),
        ("men(a)", 0, "did you mean mean"),
        ("a.men()", 0, "did you mean mean"),
        ("np.linalg.choleski(a)", 0, "did you mean linalg.cholesky"),
        ("sqrt(aa)", 5, "unknown name aa"),
        ("sqrt(zzzzz)", 5, "arrays: a, b, n, mask"),
        ("a + mean", 4, "call it"),
        ("np.mean + a", 0, "call it"),
        ("np.linalg.norm", 0, "call it"),
        ("a.mean", 0, "call it"),
        ("a.meen", 0, "did you mean mean"),
        ("a(1)", 0, "cannot be called"),
        ("a[0](1)", 0, "only functions"),
        ("(lambda: 1)()", 1, "only functions"),
        ("mean(*a)", 5, "unpacked"),
        ("mean(**a)", 7, "unpacked"),
        ("add(a, b, out=a)", 14, "out="),
        ("a.__class__", 0, "private"),
        ("a.__class__.__mro__", 0, "private"),
        ("np.__loader__", 0, "private"),
        ("np.core.multiarray", 0, "unknown name"),
        ("np.load('x')", 0, "not for expressions"),
        ("a.tofile('x')", 0, "unknown method tofile"),
        ("a.sort()", 0, "unknown method sort"),
        ("np.random.normal()", 0, "unknown function"),
        ("np.linalg.lapack.x(a)", 0, "unknown function"),
        ("open('x')", 0, "unknown function"),
        ("__import__('os')", 0, "private"),
        ("9**9**9", 0, "too long"),
        ("1 << 100000", 0, "too long"),
        ("b + é", 4, "unknown name é"),
        ("é + è.mean()", 0, "unknown name é"),
        ("float32('3')", 0, "converts"),
        ("-" * 100_000 + "a", 0, "cannot be read"),
    ],
)
def test_everything_else_is_refused_at_its_column(text: str, column: int, reason: str) -> None:
    with pytest.raises(ExpressionError, match=reason) as caught:
        evaluate(text, ARRAYS)
    assert caught.value.column == column
    assert str(caught.value).splitlines()[-1] == " " * (column + 2) + "^"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("a +", "not an expression"),
        ("a b", "not an expression"),
        ("a = 1", "not an expression"),
        ("import os", "not an expression"),
        ("a[", "not an expression"),
        ("(" * 500 + "a" + ")" * 500, "not an expression"),
        ("a\0b", "null|not"),
        ("\ud800", "surrogates"),
    ],
)
def test_what_python_cannot_read_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ExpressionError, match=reason):
        evaluate(text, ARRAYS)


@pytest.mark.usefixtures("_numpy")
def test_an_array_hides_a_function_of_the_same_name() -> None:
    names = {"linalg": np.arange(3), "e": np.arange(2)}
    assert evaluate("linalg.sum() + e[1]", names) == 4
    with pytest.raises(ExpressionError, match="method norm"):
        evaluate("linalg.norm(e)", names)


@pytest.mark.parametrize("name", ["np", "numpy", "chunkarr"])
def test_an_array_may_not_be_called_like_the_namespace(name: str) -> None:
    with pytest.raises(ExpressionError, match=name):
        evaluate("1", {name: np.arange(3)})


@pytest.mark.usefixtures("_numpy")
def test_numpy_s_error_says_in_which_part_it_arose() -> None:
    with pytest.raises(ValueError, match="mismatch") as caught:
        evaluate("1 + sqrt(a @ a)", ARRAYS)
    assert caught.value.__notes__ == ["in `a @ a`, column 10 of the expression"]


@pytest.mark.usefixtures("_numpy")
def test_a_long_text_is_shown_around_the_place() -> None:
    text = " + ".join(["a"] * 200) + " + wrong + " + " + ".join(["a"] * 200)
    with pytest.raises(ExpressionError) as caught:
        evaluate(text, ARRAYS)
    _, shown, pointer = str(caught.value).splitlines()
    assert shown[pointer.index("^") :].startswith("wrong")
    assert len(shown) < 110


@pytest.mark.parametrize(
    ("text", "nearest"),
    [("polyval([[1, 2], [3, 4]], a)", "runs on small arrays only")],
)
def test_what_is_not_there_yet_is_refused_with_what_is_nearest(text: str, nearest: str) -> None:
    # Names that run on small arrays only refuse a large one; it is not computed to be refused.
    names = {"a": chunkarr.ones(10**9)}
    refused = (ExpressionError, NotYetError)
    with pytest.raises(refused, match=nearest):
        evaluate(text, names)


def test_plans_name_the_column() -> None:
    with chunkarr.config(eager_bytes=0):
        plan = evaluate("2 + sqrt(a).sum()", {"a": chunkarr.asarray(np.arange(4.0))}).explain()
    assert "expression:5" in plan
