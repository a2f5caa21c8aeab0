"""Which of several lines is the highest: beside the textbook's scan in exact numbers, and quadrature."""

import math
import re
from collections.abc import Iterator
from inspect import unwrap

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from bo_suite.acquisition import lines as module
from bo_suite.acquisition.lines import (
    discrete_knowledge_gradient,
    log_discrete_knowledge_gradient,
    upper_envelope,
)
from bo_suite.errors import DataError

F64, F32 = torch.float64, torch.float32
Lines = list[tuple[float, float]]
VALUES = [
    ([0, 0], [-1, 1], 0.7978846),
    ([0, 1, 2], [-1, 0, 1], 0.1666309),
    ([1, 2, 1.5], [0, 0.5, -1], 0.3813542),
    ([0, -0.5, 0.3, 0.2], [0.1, 2, -0.4, 1], 0.6528228),
    ([0, 0], [0, 1], 0.3989423),
]


@pytest.fixture(params=["numba", "without numba"], scope="module", autouse=True)
def vehicle(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "numba":
            pytest.importorskip("numba")
            assert module._compiled() is not None
        else:
            patch.setattr(module, "_compiled", lambda: None)
        yield


def tensors(lines: Lines, dtype: torch.dtype = F64) -> tuple[Tensor, Tensor]:
    a, b = zip(*lines, strict=True)
    return torch.tensor(a, dtype=dtype), torch.tensor(b, dtype=dtype)


def log_of(lines: Lines) -> float:
    return float(log_discrete_knowledge_gradient(*tensors(lines)))


def exact_log_h(u: float) -> mpmath.mpf:
    """log(φ(u) + u Φ(u)), in as many digits as its cancellation eats; erfc does not underflow here."""
    with mpmath.workdps(40 + 3 * int(math.log10(1.0 + abs(u)))):
        z = mpmath.mpf(u)
        return mpmath.log(mpmath.npdf(z) + z * mpmath.erfc(-z / mpmath.sqrt(2)) / 2)


def scan(lines: Lines) -> float:
    """Frazier, Powell and Dayanik (2009), algorithm 1: the log of the gain, by a stack of lines."""
    kept: Lines = []
    for a, b in sorted(lines, key=lambda line: (line[1], line[0])):
        if kept and kept[-1][1] == b:
            kept.pop()
        kept.append((a, b))
    stack, breaks = [kept[0]], [-math.inf]
    for a, b in kept[1:]:
        while True:
            top_a, top_b = stack[-1]
            crossing = (top_a - a) / (b - top_b)
            if crossing > breaks[-1]:
                break
            stack.pop()
            breaks.pop()
        stack.append((a, b))
        breaks.append(crossing)
    terms = [
        mpmath.log(after[1] - before[1]) + exact_log_h(-abs(crossing))
        for before, after, crossing in zip(stack, stack[1:], breaks[1:], strict=False)
    ]
    if not terms:
        return -math.inf
    with mpmath.workdps(40):
        top = max(terms)
        return float(top + mpmath.log(mpmath.fsum(mpmath.exp(term - top) for term in terms)))


def quadrature(lines: Lines) -> float:
    a, b = tensors(lines)
    z = torch.linspace(-9.0, 9.0, 120_001, dtype=F64)
    highest = torch.full_like(z, -torch.inf)
    for intercept, slope in zip(a, b, strict=True):
        highest = torch.maximum(highest, intercept + slope * z)
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2.0 * math.pi)
    return float(torch.trapezoid((highest - a.max()) * density, z))


@st.composite
def some_lines(draw: st.DrawFn, largest: int = 9) -> Lines:
    """Lines with ties and duplicates, slopes that nearly agree, intercepts and slopes of any scale."""
    scales = st.sampled_from([1e-8, 1e-3, 1.0, 1e8])
    of_a, of_b = draw(scales), draw(scales)
    nudges = st.sampled_from([0.0, 0.0, 1e-12, -1e-12, 3e-12])
    coarse = st.integers(-3, 3).map(float) | st.integers(-(3 * 10**6), 3 * 10**6).map(lambda k: 1e-6 * k)
    line = st.tuples(coarse, coarse, nudges).map(lambda t: (of_a * t[0], of_b * (t[1] + t[2])))
    return draw(st.lists(line, min_size=1, max_size=largest))


@pytest.mark.parametrize(("a", "b", "value"), VALUES)
def test_published_values(a: list[float], b: list[float], value: float) -> None:
    pair = torch.tensor(a, dtype=F64), torch.tensor(b, dtype=F64)
    assert_close(float(discrete_knowledge_gradient(*pair)), value, rtol=0.0, atol=1e-7)
    assert_close(float(log_discrete_knowledge_gradient(*pair).exp()), value, rtol=0.0, atol=1e-7)


@settings(deadline=None, max_examples=60)
@given(some_lines())
def test_the_log_agrees_with_the_stack_scan(lines: Lines) -> None:
    assert_close(log_of(lines), scan(lines), rtol=1e-10, atol=1e-10)


@settings(deadline=None, max_examples=40)
@given(some_lines(6))
def test_the_value_agrees_with_quadrature_and_is_never_negative(lines: Lines) -> None:
    a, b = tensors(lines)
    value = float(discrete_knowledge_gradient(a, b))
    assert value >= 0.0
    # a kink of the integrand costs the trapezium rule its rise times the step squared over twelve
    gap = 1e-8 * float(b.max() - b.min()) + 1e-14 * float(a.abs().max() + b.abs().max())
    assert_close(value, quadrature(lines), rtol=1e-8, atol=gap)


def test_near_concurrent_lines_are_as_good_as_two() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        slopes = torch.randn(30, generator=generator, dtype=F64).tolist()
        through = float(torch.randn((), generator=generator, dtype=F64))
        lines = [(-slope * through, slope) for slope in slopes]
        steep, flat = max(lines, key=lambda line: line[1]), min(lines, key=lambda line: line[1])
        assert_close(log_of(lines), log_of([steep, flat]), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("slopes", [[1.5, 1.5, 1.5], [0.0, 0.0, 0.0], [2.0]])
def test_equal_slopes_give_exactly_nothing_and_no_gradient(slopes: list[float]) -> None:
    b = torch.tensor(slopes, dtype=F64, requires_grad=True)
    a = torch.arange(len(slopes), dtype=F64).requires_grad_()
    assert discrete_knowledge_gradient(a, b).item() == 0.0
    value = log_discrete_knowledge_gradient(a, b)
    assert value.item() == -math.inf
    for gradient in torch.autograd.grad(value, (a, b)):
        assert_close(gradient, torch.zeros_like(gradient))


def test_an_element_of_equal_slopes_does_not_spoil_the_others_of_its_batch() -> None:
    a = torch.tensor([[0.0, 0.5], [0.0, 0.0], [1.0, 2.0]], dtype=F64, requires_grad=True)
    b = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [0.0, 0.0]], dtype=F64, requires_grad=True)
    value = log_discrete_knowledge_gradient(a, b)
    assert_close(value, torch.tensor([-math.inf, math.log(0.7978845608), -math.inf], dtype=F64))
    by_a, by_b = torch.autograd.grad(value.sum(), (a, b))
    assert_close(by_a, torch.zeros_like(by_a))
    assert_close(by_b, torch.tensor([[0.0, 0.0], [-0.5, 0.5], [0.0, 0.0]], dtype=F64))


@settings(deadline=None, max_examples=40)
@given(some_lines(), st.floats(0.0, 3.0), st.floats(-3.0, 3.0))
def test_another_alternative_that_is_not_above_the_best_never_lowers_the_value(
    lines: Lines, below: float, slope: float
) -> None:
    a, b = tensors(lines)
    unit = float((b.max() - b.min()).clamp(min=1e-8))
    more = log_of([*lines, (float(a.max()) - unit * below, float(b.mean()) + unit * slope)])
    before = log_of(lines)
    assert more >= before - 1e-11 * (1.0 + abs(before)) if before > -math.inf else more >= before


@settings(deadline=None, max_examples=40)
@given(some_lines().flatmap(lambda lines: st.tuples(st.just(lines), st.permutations(lines))))
def test_the_order_of_the_lines_does_not_matter(pair: tuple[Lines, Lines]) -> None:
    assert_close(log_of(pair[0]), log_of(pair[1]), rtol=1e-13, atol=1e-13)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(-99, 99), st.integers(-99, 99)), min_size=2, max_size=9),
    st.integers(-(10**6), 10**6),
    st.integers(-(10**6), 10**6),
)
def test_constants_added_to_all_intercepts_and_to_all_slopes_change_nothing(
    lines: Lines, up: int, tilt: int
) -> None:
    plain = [(a / 64, b / 64) for a, b in lines]  # sums of these are exact
    assert_close(log_of([(a + up, b + tilt) for a, b in plain]), log_of(plain), rtol=1e-13, atol=1e-13)


@settings(deadline=None, max_examples=50)
@given(some_lines(), st.sampled_from([2.0**-30, 0.5, 2.0**30]))
def test_the_value_has_the_unit_of_the_lines_and_no_sign_of_z(lines: Lines, unit: float) -> None:
    value = log_of(lines)
    scaled = log_of([(unit * a, unit * b) for a, b in lines])
    assert_close(scaled, value + math.log(unit) if value > -math.inf else value, rtol=1e-12, atol=1e-12)
    assert_close(log_of([(a, -b) for a, b in lines]), value, rtol=1e-11, atol=1e-11)


def test_a_batch_is_as_good_as_its_elements_one_by_one() -> None:
    generator = torch.Generator().manual_seed(3)
    a, b = (torch.randn(4, 25, 40, generator=generator, dtype=F64) for _ in range(2))
    a[:2] *= 0.01  # many edges here, few there
    b[1, :, 1:] = b[1, :, :1]
    b[3] = torch.round(b[3])
    together = log_discrete_knowledge_gradient(a, b)
    assert together.shape == (4, 25)
    for place in range(4):
        for row in range(25):
            alone = log_discrete_knowledge_gradient(a[place, row], b[place, row])
            assert_close(together[place, row], alone, rtol=1e-13, atol=1e-13)
            lines = list(zip(a[place, row].tolist(), b[place, row].tolist(), strict=True))
            if row < 5:
                assert_close(float(alone), scan(lines), rtol=1e-11, atol=1e-11)


def test_no_element_makes_an_empty_batch() -> None:
    empty = torch.zeros(0, 3, dtype=F64)
    assert log_discrete_knowledge_gradient(empty, empty).shape == (0,)


def test_the_envelope_names_its_lines_from_left_to_right_and_repeats_the_last() -> None:
    a = torch.tensor([[0.0, -5.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0, 3.0]], dtype=F64)
    b = torch.tensor([[1.0, 0.0, -2.0, 0.5, -1.0], [1.0, 1.0, 1.0, 1.0, 1.0]], dtype=F64)
    assert upper_envelope(a, b).tolist() == [[2, 4, 0], [4, 4, 4]]


@pytest.mark.parametrize("gap", [5.0, 38.6, 99.9, 100.1, 141.4, 1e4])
def test_two_lines_far_apart_agree_with_mpmath_far_below_underflow(gap: float) -> None:
    value = log_of([(0.0, 0.0), (-0.3 * gap, 0.3)])
    assert_close(value, math.log(0.3) + float(exact_log_h(-0.3 * gap / 0.3)), rtol=1e-12, atol=1e-12)
    both = log_of([(0.0, 0.1), (-0.3 * gap, 0.4), (-0.3 * gap, -0.2)])
    assert_close(both, value + math.log(2.0), rtol=1e-12, atol=1e-12)


def test_the_tail_reaches_ten_thousand_below_zero_in_gradients_too() -> None:
    a = torch.tensor([0.0, -14.14], dtype=F64, requires_grad=True)
    b = torch.tensor([0.0, 0.1], dtype=F64, requires_grad=True)
    value = log_discrete_knowledge_gradient(a, b)
    assert -1.01e4 < value.item() < -1e4
    by_a, by_b = torch.autograd.grad(value, (a, b))
    with mpmath.workdps(60):
        u = mpmath.mpf(-14.14) / mpmath.mpf(0.1)
        cumulative = mpmath.ncdf(u)
        h = mpmath.npdf(u) + u * cumulative
        by_intercept = float(cumulative / h / mpmath.mpf(0.1))
        by_slope = float(mpmath.npdf(u) / h / mpmath.mpf(0.1))
    assert_close(by_a, torch.tensor([-by_intercept, by_intercept], dtype=F64), rtol=1e-9, atol=0.0)
    assert_close(by_b, torch.tensor([-by_slope, by_slope], dtype=F64), rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("scale", [0.05, 1.0, 30.0])
def test_gradients_by_intercepts_and_slopes_agree_with_finite_differences(scale: float) -> None:
    generator = torch.Generator().manual_seed(11)
    a = scale * torch.randn(6, 8, generator=generator, dtype=F64)
    b = torch.randn(6, 8, generator=generator, dtype=F64)
    leaves = a.clone().requires_grad_(), b.clone().requires_grad_()
    by_a, by_b = torch.autograd.grad(log_discrete_knowledge_gradient(*leaves).sum(), leaves)
    assert bool((by_a.abs().sum(-1) > 0).all())
    for place in range(8):
        step = torch.zeros(8, dtype=F64)
        step[place] = 1e-6
        rise = log_discrete_knowledge_gradient(a + step, b) - log_discrete_knowledge_gradient(a - step, b)
        assert_close(by_a[:, place], rise / 2e-6, rtol=1e-5, atol=1e-6)
        rise = log_discrete_knowledge_gradient(a, b + step) - log_discrete_knowledge_gradient(a, b - step)
        assert_close(by_b[:, place], rise / 2e-6, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("dtype", "least"), [(F64, 1e-160), (F32, 1e-21)])
def test_a_term_too_small_for_its_square_leaves_the_others_their_gradients(
    dtype: torch.dtype, least: float
) -> None:
    pair = tuple(
        torch.tensor(values, dtype=dtype, requires_grad=True)
        for values in ([0.0, -1.0, -1.0], [0.0, 1.0, -least])
    )
    value = log_discrete_knowledge_gradient(*pair)
    assert_close(value.item(), float(exact_log_h(-1.0)), rtol=1e-6, atol=0.0)
    for gradient, slope in zip(torch.autograd.grad(value, pair), (1.9042713, 2.9042713), strict=True):
        assert_close(gradient, torch.tensor([-slope, slope, 0.0], dtype=dtype), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("dtype", "least"), [(F64, 1e-160), (F32, 1e-21)])
def test_a_gain_too_small_for_its_logarithm_has_no_gradient_that_is_nan(
    dtype: torch.dtype, least: float
) -> None:
    pair = tuple(
        torch.tensor(values, dtype=dtype, requires_grad=True) for values in ([0.0, -1.0], [0.0, least])
    )
    value = log_discrete_knowledge_gradient(*pair)
    assert value.item() < -1e38
    for gradient in torch.autograd.grad(value, pair):
        assert not bool(torch.isnan(gradient).any()), gradient


@pytest.mark.parametrize("scale", [0.05, 1.0, 30.0])
def test_single_precision_agrees_with_double(scale: float) -> None:
    generator = torch.Generator().manual_seed(5)
    a = scale * torch.randn(50, 20, generator=generator)
    b = torch.randn(50, 20, generator=generator)
    single = log_discrete_knowledge_gradient(a, b)
    assert single.dtype == F32
    assert_close(
        single.double(), log_discrete_knowledge_gradient(a.double(), b.double()), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("shape", "other"), [((3, 0), (3, 0)), ((2,), (1,)), ((4, 2), (2,)), ((2, 3), (3, 2))]
)
def test_there_must_be_a_line_and_as_many_slopes_as_intercepts(
    shape: tuple[int, ...], other: tuple[int, ...]
) -> None:
    unchecked = unwrap(log_discrete_knowledge_gradient)  # its annotations would be first to refuse
    with pytest.raises(DataError, match=re.escape(f"j >= 1, got {shape} and {other}")):
        unchecked(torch.zeros(shape, dtype=F64), torch.zeros(other, dtype=F64))
    if shape == other:
        with pytest.raises(DataError, match="j >= 1"):
            discrete_knowledge_gradient(torch.zeros(shape, dtype=F64), torch.zeros(other, dtype=F64))
