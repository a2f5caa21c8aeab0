"""Updates, downdates, rows appended and deleted, against refactoring."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from bo_suite.errors import DataError, NumericalError
from bo_suite.linalg import (
    blocked,
    cholesky,
    cholesky_append,
    cholesky_delete,
    cholesky_downdate,
    cholesky_slide,
    cholesky_update,
    lapack,
    scan,
)

SIZES = (1, 2, 3, 17, 64, 257)
RANKS = (0, 1, 2, 33)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def spd(*batch: int, n: int, condition: float = 1e3, seed: int = 0) -> Tensor:
    """Eigenvalues from 1 down to 1 / condition."""
    q = torch.linalg.qr(normal(*batch, n, n, seed=seed)).Q
    values = torch.logspace(0.0, -math.log10(condition), n, dtype=torch.float64)
    whole = q * values @ q.mT
    return (whole + whole.mT) / 2


def feasible(chol: Tensor, k: int, margin: float = 0.3, seed: int = 1) -> Tensor:
    """Vectors V with 1 - ‖L⁻¹V‖² the margin."""
    white = normal(*chol.shape[:-1], k, seed=seed)
    return chol @ (white / torch.linalg.matrix_norm(white, 2)[..., None, None] * math.sqrt(1.0 - margin))


def residual(chol: Tensor, matrix: Tensor, scale: Tensor | None = None) -> float:
    """Largest ‖L Lᵀ - A‖ / ‖scale‖, A's own unless another is given."""
    assert_close(chol.triu(1), torch.zeros_like(chol), rtol=0, atol=0)
    assert bool((chol.diagonal(0, -2, -1) > 0).all())
    norm = torch.linalg.matrix_norm(matrix if scale is None else scale)
    return float((torch.linalg.matrix_norm(chol @ chol.mT - matrix) / norm).max())


@pytest.fixture(params=["numba", "without numba"])
def vehicle(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "numba":
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr(cholesky, "_compiled", lambda: None)


@pytest.mark.usefixtures("vehicle")
@pytest.mark.parametrize("condition", [1e1, 1e6, 1e12])
@pytest.mark.parametrize("k", RANKS)
@pytest.mark.parametrize("n", SIZES)
def test_updates_and_downdates_equal_refactoring(n: int, k: int, condition: float) -> None:
    matrix = spd(n=n, condition=condition)
    chol = torch.linalg.cholesky(matrix)
    vectors = normal(n, k, seed=2)
    assert residual(cholesky_update(chol, vectors), matrix + vectors @ vectors.mT) < 1e-14
    k = min(k, n)
    removed = feasible(chol, k) if k else vectors[:, :0]
    assert residual(cholesky_downdate(chol, removed), matrix - removed @ removed.mT) < 1e-12
    both = matrix + vectors @ vectors.mT - removed @ removed.mT
    assert residual(cholesky_update(chol, vectors, removed), both) < 1e-12


@pytest.mark.usefixtures("vehicle")
@pytest.mark.parametrize("batch", [(3,), (2, 3), (0,)])
@pytest.mark.parametrize("k", [1, 20])
def test_batches_are_their_elements_and_broadcast(batch: tuple[int, ...], k: int) -> None:
    matrix = spd(*batch, n=9)
    chol = torch.linalg.cholesky(matrix)
    vectors = normal(*batch, 9, k)
    together = cholesky_update(chol, vectors)
    assert together.shape == (*batch, 9, 9)
    for index in (
        torch.cartesian_prod(*(torch.arange(size) for size in batch)).reshape(-1, len(batch)).tolist()
    ):
        alone = cholesky_update(chol[tuple(index)], vectors[tuple(index)])
        assert_close(together[tuple(index)], alone, rtol=0, atol=0)
    one = torch.linalg.cholesky(spd(n=9, seed=3))
    shared = cholesky_update(one, vectors)
    assert_close(shared, cholesky_update(one.expand(*batch, 9, 9), vectors), rtol=0, atol=0)
    assert shared.shape == (*batch, 9, 9)
    assert cholesky_update(chol, vectors[..., :1, :, :].sum(tuple(range(len(batch))))).shape == (*batch, 9, 9)


@pytest.mark.usefixtures("vehicle")
@pytest.mark.parametrize("k", [1, 20])
def test_layouts_do_not_matter_and_arguments_are_not_changed(k: int) -> None:
    chol = torch.linalg.cholesky(spd(2, n=150))
    vectors = normal(2, 150, k)
    wide = torch.zeros(2, 300, 300, dtype=torch.float64)
    wide[:, ::2, ::2] = chol
    reference = cholesky_update(chol, vectors)
    layouts = [chol.contiguous(), chol.mT.contiguous().mT, wide[:, ::2, ::2]]
    for layout in layouts:
        for columns in (vectors, vectors.mT.contiguous().mT, vectors.repeat_interleave(2, -1)[..., ::2]):
            before = layout.clone(), columns.clone()
            assert_close(cholesky_update(layout, columns), reference, rtol=0, atol=1e-13)
            cholesky_downdate(layout, 1e-3 * columns)
            assert_close((layout, columns), before, rtol=0, atol=0)
    expanded = chol[:1].expand(2, -1, -1)
    assert_close(cholesky_update(expanded, vectors)[0], reference[0], rtol=0, atol=1e-13)


@pytest.mark.usefixtures("vehicle")
def test_single_precision() -> None:
    matrix = spd(n=64, condition=1e2)
    chol = torch.linalg.cholesky(matrix).float()
    exact = chol.double() @ chol.double().mT
    for k in (1, 16):
        vectors = normal(64, k, dtype=torch.float32)
        updated = cholesky_update(chol, vectors)
        assert updated.dtype == torch.float32
        assert residual(updated.double(), exact + vectors.double() @ vectors.double().mT) < 1e-6
        for margin in (0.3, 1e-4):
            removed = feasible(chol.double(), k, margin).float()
            downdated = cholesky_downdate(chol, removed)
            assert residual(downdated.double(), exact - removed.double() @ removed.double().mT) < 1e-6
    assert cholesky_delete(chol, 3).dtype == cholesky_append(chol, vectors, 1e6 * torch.eye(16)).dtype


@pytest.mark.usefixtures("vehicle")
@pytest.mark.parametrize("margin", [1e-3, 1e-5, 1e-7, 1e-9])
def test_next_to_infeasible_downdates_stay_accurate(margin: float) -> None:
    matrix = spd(n=40, condition=1e2)
    chol = torch.linalg.cholesky(matrix)
    vector = feasible(chol, 1, margin)
    downdated = cholesky_downdate(chol, vector)
    assert residual(downdated, matrix - vector @ vector.mT) < 1e-12
    log_det = 2 * downdated.diagonal().log().sum() - 2 * chol.diagonal().log().sum()
    assert_close(log_det.exp(), torch.tensor(margin, dtype=torch.float64), rtol=1e-15 / margin * 100, atol=0)


@pytest.mark.usefixtures("vehicle")
@pytest.mark.parametrize("margin", [1e-5, 1e-7, 1e-9])
def test_the_determinant_of_a_next_to_infeasible_downdate_is_that_of_the_factor(margin: float) -> None:
    """Refactoring the matrix, of condition 1e8, has errors 1000 times larger."""
    chol = torch.linalg.cholesky(spd(n=40, condition=1e8))
    vector = feasible(chol, 1, margin)
    precise, rest = chol.numpy().astype(np.longdouble), vector[:, 0].numpy().astype(np.longdouble)
    white = np.zeros_like(rest)
    for i in range(40):
        white[i] = (rest[i] - precise[i, :i] @ white[:i]) / precise[i, i]
    downdated = cholesky_downdate(chol, vector)
    log_ratio = 2 * float((downdated.diagonal().log() - chol.diagonal().log()).sum())
    assert abs(log_ratio - float(np.log(1 - white @ white))) < 1e-12 / margin


@pytest.mark.usefixtures("vehicle")
@pytest.mark.parametrize("k", [1, 3, 12])
def test_infeasible_downdates_are_refused_with_how_far_they_are(k: int) -> None:
    chol = torch.linalg.cholesky(spd(2, 3, n=12))
    vectors = feasible(chol, k)
    vectors[1, 2] = feasible(chol[1, 2], k, margin=-0.5)
    with pytest.raises(NumericalError, match=r"batch element 5 of \(2, 3\).* = -0\.5 "):
        cholesky_downdate(chol, vectors)
    with pytest.raises(NumericalError, match=r"A - W Wᵀ .* but it is not: 1 - ‖L⁻¹W‖² = -1e-07 "):
        cholesky_downdate(chol[0, 0], feasible(chol[0, 0], k, margin=-1e-7))
    # what is added first makes room
    room = cholesky_update(chol, 2 * vectors, vectors)
    assert residual(room, chol @ chol.mT + 3 * vectors @ vectors.mT) < 1e-13


@pytest.mark.usefixtures("vehicle")
@pytest.mark.parametrize("k", [1, 20])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_an_error(value: float, k: int) -> None:
    chol = torch.linalg.cholesky(spd(2, n=30))
    vectors = normal(2, 30, k)
    for call in (
        lambda: cholesky_update(chol, torch.full((2, 30, 30), value, dtype=torch.float64)),
        lambda: cholesky_downdate(chol, torch.full((2, 30, 29), value, dtype=torch.float64)),
    ):
        with pytest.raises(NumericalError, match=r"finite, but batch element 0 of \(2,\)"):
            call()
    for place in (0, 17, 29):
        bad = vectors.clone()
        bad[1, place, 0] = value
        broken = chol.clone()
        broken[1, place, min(place, 5)] = value
        for call in (
            lambda bad=bad: cholesky_update(chol, bad),
            lambda bad=bad: cholesky_downdate(chol, 1e-3 * bad),
            lambda broken=broken: cholesky_update(broken, vectors),
            lambda broken=broken: cholesky_downdate(broken, 1e-3 * vectors),
        ):
            with pytest.raises(NumericalError, match=r"finite.*but batch element 1 of \(2,\)"):
                call()
    with pytest.raises(NumericalError, match="finite"):
        cholesky_append(chol, vectors[..., :1] * value, torch.ones(1, 1, dtype=torch.float64))
    with pytest.raises(NumericalError, match="finite"):
        cholesky_append(chol, vectors[..., :1], torch.full((1, 1), value, dtype=torch.float64))
    with pytest.raises(NumericalError, match="a positive and finite diagonal, but it does not"):
        cholesky_downdate(torch.zeros(2, 2), torch.ones(2, 1))


@pytest.mark.usefixtures("vehicle")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scales_that_squares_can_not_hold(dtype: torch.dtype) -> None:
    matrix = spd(n=8, condition=1e2)
    chol, vectors = torch.linalg.cholesky(matrix).to(dtype), normal(8, 1, dtype=dtype)
    reference = cholesky_update(chol, vectors)
    for scale in (1e-30, 1e25) if dtype == torch.float32 else (1e-200, 1e200):
        scaled = cholesky_update(scale * chol, scale * vectors)
        assert_close(scaled / scale, reference, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=1e-6)


@pytest.mark.usefixtures("vehicle")
@pytest.mark.parametrize("k", [1, 30])
def test_vectors_without_entries_change_nothing(k: int) -> None:
    chol = torch.linalg.cholesky(spd(n=40))
    vectors = torch.zeros(40, k, dtype=torch.float64)
    assert_close(cholesky_update(chol, vectors), chol, rtol=0, atol=1e-15)
    assert_close(cholesky_downdate(chol, vectors), chol, rtol=0, atol=1e-15)
    vectors[20:] = 0.1 * normal(20, k)
    assert residual(cholesky_update(chol, vectors), chol @ chol.mT + vectors @ vectors.mT) < 1e-14


@pytest.mark.usefixtures("vehicle")
@pytest.mark.parametrize("k", [1, 30, 64])
def test_next_to_singular_matrices_are_rotated_not_refactored(k: int) -> None:
    """Refactoring knows A to eps ‖A‖ only, the factor knows its small pivots as well as its large ones."""
    chol = torch.linalg.cholesky(spd(n=70, condition=1e2))
    grading = torch.logspace(0, -8, 70, dtype=torch.float64)[:, None]
    vectors = feasible(chol, k, margin=0.1)
    reference = cholesky_downdate(chol, vectors)
    assert_close(
        cholesky_downdate(grading * chol, grading * vectors) / grading, reference, rtol=1e-9, atol=1e-10
    )
    vectors = normal(70, k)
    updated = cholesky_update(grading * chol, grading * vectors) / grading
    assert_close(updated, cholesky_update(chol, vectors), rtol=1e-9, atol=1e-10)
    for margin in (-1e-3, -1e-6):
        with pytest.raises(NumericalError, match="positive definite"):
            cholesky_downdate(grading * chol, grading * feasible(chol, k, margin))
        with pytest.raises(NumericalError, match=r"for the factor L of A \+ V Vᵀ"):
            cholesky_update(chol, normal(70, 30), feasible(cholesky_update(chol, normal(70, 30)), k, margin))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_forward_mode_is_refused_and_results_may_be_changed_in_place() -> None:
    chol = torch.linalg.cholesky(spd(n=4))
    vectors = normal(4, 1)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(vectors, vectors)
        with pytest.raises((NotImplementedError, RuntimeError), match=r"jvp|forward"):
            cholesky_update(chol, dual)
    result = cholesky_update(chol, vectors.requires_grad_())
    result[0, 0] = 1.0
    result.sum().backward()


def test_arguments_that_do_not_fit_are_refused() -> None:
    chol = torch.linalg.cholesky(spd(n=4))
    vectors = normal(4, 1)
    for call, message in (
        (lambda: cholesky_update(chol.mT, vectors), "pass chol.mT"),
        (lambda: cholesky_delete(chol.mT, 0), "lower triangular"),
        (lambda: cholesky_append(chol.mT, vectors, vectors[:1]), "lower triangular"),
        (lambda: cholesky_update(chol[:3], vectors), r"chol must be \(\*b, n, n\)"),
        (lambda: cholesky_update(chol, vectors[:, 0]), r"a single vector is \(\*b, n, 1\)"),
        (lambda: cholesky_update(chol, vectors[:3]), r"got \(3, 1\)"),
        (lambda: cholesky_update(chol, vectors.float()), "float32"),
        (lambda: cholesky_update(chol.half(), vectors.half()), "float16"),
        (lambda: cholesky_update(chol.expand(2, 4, 4), vectors.expand(3, 4, 1)), "broadcast"),
        (lambda: cholesky_update(chol, vectors, vectors[:2]), r"got \(2, 1\)"),
        (lambda: cholesky_slide(chol, vectors[:2], vectors[:1]), r"chol \(3, 3\)"),
        (lambda: cholesky_append(chol, vectors, normal(2, 2)), "corner"),
        (lambda: cholesky_delete(chol, 4), "rows of 4"),
        (lambda: cholesky_delete(chol, torch.tensor([0, -5])), "rows of 4"),
        (lambda: cholesky_delete(chol, torch.tensor([0.5])), "rows of 4"),
        (lambda: cholesky_delete(chol, torch.zeros(5, dtype=torch.bool)), "rows of 4"),
        (lambda: cholesky_delete(chol, torch.zeros(4, 1, dtype=torch.bool)), "rows of 4"),
        (lambda: cholesky_delete(chol, True), "rows of 4"),
        (lambda: cholesky_delete(chol, [1]), "rows of 4"),
        (lambda: cholesky_append(chol, vectors, vectors[:1].float()), "float32"),
        (lambda: cholesky_slide(chol, normal(4, 6)[:0], torch.eye(6, dtype=torch.float64)), "cross must be"),
    ):
        with pytest.raises(DataError, match=message):
            call()


@pytest.mark.usefixtures("vehicle")
@pytest.mark.parametrize(
    "index",
    [
        0,
        7,
        -1,
        slice(0, 3),
        slice(2, None, 3),
        slice(8, None),
        slice(3, 3),
        [1, 4],
        [-1, 0, 0],
        "mask",
        "all",
    ],
    ids=str,
)
@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_deleting_equals_refactoring_what_is_left(index: object, batch: tuple[int, ...]) -> None:
    matrix = spd(*batch, n=10)
    chol = torch.linalg.cholesky(matrix)
    if index == "mask":
        index = torch.arange(10) % 4 == 1
    elif index == "all":
        index = slice(None)
    elif isinstance(index, list):
        index = torch.tensor(index)
    kept = torch.ones(10, dtype=torch.bool)
    kept[index] = False
    left = matrix[..., kept, :][..., kept]
    assert_close(cholesky_delete(chol, index), torch.linalg.cholesky(left), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize(("n", "q"), [(1, 1), (5, 3), (0, 4), (4, 0), (150, 2)])
def test_append_equals_factoring_the_whole(batch: tuple[int, ...], n: int, q: int) -> None:
    whole = spd(*batch, n=n + q)
    chol = torch.linalg.cholesky(whole[..., :n, :n])
    appended = cholesky_append(chol, whole[..., :n, n:], whole[..., n:, n:])
    assert_close(appended, torch.linalg.cholesky(whole), rtol=1e-11, atol=1e-11)
    broadcast = cholesky_append(
        chol, whole[..., :n, n:], whole[..., n:, n:].expand(4, *whole[..., n:, n:].shape)
    )
    assert_close(broadcast[3], appended, rtol=0, atol=0)


@pytest.mark.usefixtures("vehicle")
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize(("n", "q"), [(1, 1), (7, 1), (7, 0), (150, 3), (6, 6)])
def test_sliding_equals_deleting_and_appending(batch: tuple[int, ...], n: int, q: int) -> None:
    whole = spd(*batch, n=n + q)
    chol = torch.linalg.cholesky(whole[..., :n, :n])
    slid = cholesky_slide(chol, whole[..., q:n, n:], whole[..., n:, n:])
    assert_close(slid, torch.linalg.cholesky(whole[..., q:, q:]), rtol=1e-12, atol=1e-12)
    many = cholesky_slide(chol, whole[..., q:n, n:].expand(4, *batch, -1, -1), whole[..., n:, n:])
    assert_close(many[3], slid, rtol=1e-13, atol=1e-13)


@pytest.mark.usefixtures("vehicle")
@given(st.integers(1, 40), st.integers(1, 15), st.integers(0, 2**31), st.sampled_from([1e1, 1e5, 1e9]))
@settings(max_examples=40, deadline=None)
def test_properties(n: int, k: int, seed: int, condition: float) -> None:
    matrix = spd(n=n, condition=condition, seed=seed)
    chol = torch.linalg.cholesky(matrix)
    one, two = 0.3 * normal(n, k, seed=seed + 1), 0.3 * normal(n, k, seed=seed + 2)
    tolerance = {"rtol": 1e-15 * condition * 1e3, "atol": 1e-15 * condition * 1e3}
    updated = cholesky_update(chol, one)
    assert_close(cholesky_downdate(updated, one), chol, **tolerance)
    assert_close(cholesky_update(updated, two), cholesky_update(cholesky_update(chol, two), one), **tolerance)
    assert_close(cholesky_update(chol, one, 0.5 * one), cholesky_update(chol, 0.75**0.5 * one), **tolerance)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    permuted = torch.linalg.cholesky(matrix[order][:, order])
    assert_close(
        cholesky_update(permuted, one[order]),
        torch.linalg.cholesky((updated @ updated.mT)[order][:, order]),
        **tolerance,
    )
    q = min(k, n)
    corner = 10.0 * torch.eye(q, dtype=torch.float64)
    appended = cholesky_append(chol, chol[:, :q] * 0.1, corner)
    assert_close(cholesky_delete(appended, slice(n, None)), chol, rtol=0, atol=0)
    moved = torch.cat((torch.arange(n, n + q), torch.arange(n)))
    front = torch.linalg.cholesky((appended @ appended.mT)[moved][:, moved])
    assert_close(cholesky_delete(front, slice(0, q)), chol, **tolerance)


@pytest.mark.usefixtures("vehicle")
@pytest.mark.parametrize("batch", [(), (2,)])
def test_gradients(batch: tuple[int, ...]) -> None:
    raw = torch.linalg.cholesky(spd(*batch, n=5, condition=10.0)).requires_grad_()
    vectors = normal(*batch, 5, 2).requires_grad_()
    removed = (0.1 * normal(*batch, 5, 2, seed=5)).requires_grad_()
    corner = torch.eye(2, dtype=torch.float64).mul(200.0).requires_grad_()

    def append(raw: Tensor, cross: Tensor, corner: Tensor) -> Tensor:
        return cholesky_append(raw.tril(), cross, corner + corner.mT)

    check, twice = torch.autograd.gradcheck, torch.autograd.gradgradcheck

    def slide(raw: Tensor, cross: Tensor, corner: Tensor) -> Tensor:
        return cholesky_slide(raw.tril(), cross[..., 2:, :], corner + corner.mT)

    for derivative in (check, twice):
        assert derivative(slide, (raw, vectors, corner))
        assert derivative(lambda raw, v, w: cholesky_update(raw.tril(), v, w), (raw, vectors, removed))
        assert derivative(lambda raw, w: cholesky_downdate(raw.tril(), w), (raw, removed))
        assert derivative(append, (raw, vectors, corner))
        for index in (0, 2, 4, slice(0, 4, 2)):
            assert derivative(lambda raw, index=index: cholesky_delete(raw.tril(), index), (raw,))
    shared = raw if not batch else raw[0].detach().requires_grad_()
    assert check(lambda raw, v: cholesky_update(raw.tril(), v), (shared, vectors))


@pytest.mark.parametrize("condition", [1e2, 1e7, 1e12])
@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 200])
def test_ways_that_the_dispatcher_leaves_to_other_sizes_are_as_accurate(n: int, condition: float) -> None:
    matrix = spd(2, n=n, condition=condition)
    chol = torch.linalg.cholesky(matrix)
    for k in (1, 2, 70):
        vectors = normal(2, n, k)
        assert residual(scan.rotate(chol, vectors, k)[0], matrix + vectors @ vectors.mT) < 1e-14
        for margin in (0.5, 1e-3, 1e-6):
            removed = feasible(chol, k, margin)
            for way in (blocked.remove, lambda chol, vectors: scan.rotate(chol, vectors, 0)):
                result, margins = way(chol, removed)
                assert residual(result, matrix - removed @ removed.mT, matrix) < 1e-12
                assert_close(margins.prod(-1), det_ratio(chol, removed), rtol=1e-9 / margin, atol=0)


def det_ratio(chol: Tensor, removed: Tensor) -> Tensor:
    """|A - W Wᵀ| / |A| = |I - (L⁻¹W)ᵀ L⁻¹W|."""
    white = torch.linalg.solve_triangular(chol, removed, upper=False)
    return torch.linalg.det(torch.eye(removed.shape[-1], dtype=torch.float64) - white.mT @ white)


def test_every_way_gives_the_same_numbers() -> None:
    compiled = pytest.importorskip("bo_suite.linalg.compiled")
    chol = torch.linalg.cholesky(spd(3, n=70, condition=1e4))
    vectors = torch.cat((normal(3, 70, 2), feasible(chol, 3)), -1)
    signs = torch.tensor([1.0, 1.0, -1.0, -1.0, -1.0], dtype=torch.float64)
    reference = torch.linalg.cholesky(chol @ chol.mT + vectors * signs @ vectors.mT)
    for result, margins in (
        compiled.rotate(chol, vectors, 2, 1e-6),
        scan.rotate(chol, vectors, 2),
        cholesky._refactored(chol, vectors, 2),
        scan.rotate(lapack.add(chol, vectors[..., :2])[0], vectors[..., 2:], 0),
    ):
        assert_close(result, reference, rtol=1e-9, atol=1e-10)
        assert bool((margins > 0).all())
    assert_close(
        compiled.rotate(chol, vectors, 2, 1e-6)[1], scan.rotate(chol, vectors, 2)[1], rtol=1e-9, atol=0
    )


def test_a_small_result_does_not_keep_a_large_block() -> None:
    chol = torch.linalg.cholesky(spd(n=200))
    large = torch.eye(1500, dtype=torch.float64)
    cholesky_update(large, normal(1500, 1))  # dropped at once
    held = [cholesky_update(chol, normal(200, 1)) for _ in range(3)]
    assert all(result.untyped_storage().nbytes() < 1e6 for result in held)
    again = cholesky_update(large, normal(1500, 1))
    assert again.shape == large.shape


def test_a_dropped_result_does_not_shine_through_the_next() -> None:
    chol = torch.linalg.cholesky(spd(n=400))
    for _ in range(3):
        result = cholesky_update(chol, normal(400, 1))
        kept = result[:3, :3]  # a view keeps the memory
        expected = kept.clone()
        result.fill_(7.0)
        kept.copy_(expected)
        del result
        again = cholesky_update(chol, normal(400, 1))
        assert residual(again, chol @ chol.mT + normal(400, 1) @ normal(400, 1).mT) < 1e-14
        assert_close(kept, expected, rtol=0, atol=0)


def test_numba_that_can_not_cache_is_left_out_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    numba = pytest.importorskip("numba")

    def refuse(**options: object) -> object:
        raise RuntimeError("cannot cache function")

    monkeypatch.setattr(numba, "njit", refuse)
    monkeypatch.delitem(sys.modules, "bo_suite.linalg.compiled", raising=False)
    monkeypatch.delattr("bo_suite.linalg.compiled", raising=False)
    assert cholesky._compiled.__wrapped__() is None
    assert "cannot cache function" in caplog.text


def test_numba_is_not_needed_and_not_loaded_before_its_use() -> None:
    code = """
import sys
sys.modules["numba"] = None
import torch
from bo_suite.linalg import cholesky_update
torch.set_default_dtype(torch.float64)
print(cholesky_update(torch.eye(2), torch.ones(2, 1))[0, 0].item() ** 2)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert abs(float(answer.stdout) - 2.0) < 1e-12
    code = "import sys, bo_suite.linalg, bo_suite.run.minimize; print('numba' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
