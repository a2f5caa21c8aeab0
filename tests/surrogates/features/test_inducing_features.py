"""Inducing variables of every kind: their covariances, gradients, bounds and processes."""

import copy
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.kernels import ArcCosine, ChordalMatern52, ChordalSquaredExponential, Kernel, Matern52, Zonal
from bo_suite.kernels.sphere import funk_hecke
from bo_suite.linalg.factors import Diagonal
from bo_suite.surrogates import SGPR, SVGP, ExactGP, SparseProcess
from bo_suite.surrogates.features import (
    Activations,
    Erf,
    InducingFeatures,
    InducingVariables,
    Orthogonal,
    Points,
    Softplus,
    SphericalHarmonics,
    Stacked,
)
from bo_suite.surrogates.paths import draw_paths
from bo_suite.testing import check_surrogate

SEEDS = Seeds.of(0, 0)
EXACT = {"rtol": 0.0, "atol": 1e-8}
FEATURES: dict[str, InducingFeatures] = {
    "harmonics": SphericalHarmonics(count=14),
    "units": Activations(8, degree=6),
    "harmonics and points": Orthogonal(SphericalHarmonics(degree=1), 6),
    "units and points": Orthogonal(Activations(5, Softplus(), degree=5), 4),
    "points and points": Orthogonal(4, 6),
}
PROFILES = {
    "arc": ArcCosine(),
    "smooth": ArcCosine(2),
    "matern": ChordalMatern52(),
    "rbf": ChordalSquaredExponential(),
}


def data_of(n: int, d: int = 2, *batch: int, seed: int = 0) -> Dataset:
    generator = torch.Generator("cpu").manual_seed(seed)
    x = torch.rand(*batch, n, d, generator=generator, dtype=torch.float64, device="cpu")
    noise = torch.randn(*batch, n, generator=generator, dtype=torch.float64, device="cpu")
    y = torch.sin(5.0 * x[..., 0]) + (x[..., -1] - 0.4).abs() + 0.1 * noise
    return Dataset(x, y - y.mean(-1, keepdim=True))


def placed(
    features: InducingFeatures, profile: Any, data: Dataset
) -> tuple[InducingVariables, Zonal, Tensor]:
    kernel = Zonal(profile)
    dim = data.x.shape[-1]
    theta = (kernel.start(dim) + 0.1).expand(*data.batch_shape, -1)
    return features.place(data, kernel, theta, SEEDS), kernel, theta


def explained(variables: InducingVariables, kernel: Kernel, theta: Tensor, x: Tensor) -> Tensor:
    """Q_ff = k_u(x)ᵀ K_uu⁻¹ k_u(x), without jitter."""
    a = variables.covariance(kernel, theta, 0.0).factor.solve(variables.cross(kernel, theta, x))
    return a.mT @ a


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
def test_covariances_and_their_gradients(features: InducingFeatures, profile: Any) -> None:
    """All are blocks of one positive semidefinite covariance, and gradients are those of differences."""
    data = data_of(12)
    variables, kernel, theta = placed(features, profile, data)
    x = data.x[:5]
    covariance = variables.covariance(kernel, theta, 0.0)
    k_uu = covariance.factor.dense @ covariance.factor.dense.mT
    assert_close(variables.variances(kernel, theta), k_uu.diagonal())
    k_u, pull_joint = variables.joint(kernel, theta, x)
    assert_close(variables.cross(kernel, theta, x), k_u, **EXACT)
    across, pull_x = variables.cross_to(kernel, theta)(x)
    assert_close(across, k_u.mT, **EXACT)
    unexplained = kernel.gram(theta, x)[0] - explained(variables, kernel, theta, x)
    assert float(torch.linalg.eigvalsh(unexplained).min()) > -1e-9

    weights = torch.randn(*k_uu.shape, generator=torch.Generator("cpu").manual_seed(1)).double()
    weights, beside = (
        weights + weights.mT,
        torch.sin(torch.arange(k_u.numel(), dtype=torch.float64)).reshape(k_u.shape),
    )

    def value(theta: Tensor, parameters: Tensor, x: Tensor) -> Tensor:
        moved = variables.moved(parameters)
        dense = moved.covariance(kernel, theta, 0.0).factor.dense
        return (weights * (dense @ dense.mT)).sum() + (beside * moved.cross(kernel, theta, x)).sum()

    parameters = variables.parameters
    own, both = covariance.pullback(weights), pull_joint(beside)
    by_x = pull_x(beside.mT)
    for gradient, index in ((own[0] + both[0], 0), (own[1] + both[1], 1), (by_x, 2)):
        for entry in range(0, gradient.numel(), 1 + gradient.numel() // 6):
            ends = []
            for sign in (1.0, -1.0):
                arguments = [theta, parameters, x]
                moved = arguments[index].clone()
                moved.view(-1)[entry] += sign * 1e-6
                arguments[index] = moved
                ends.append(value(*arguments))
            slope = float(ends[0] - ends[1]) / 2e-6
            assert abs(float(gradient.reshape(-1)[entry]) - slope) < 1e-5 * (1.0 + abs(slope)), (index, entry)


def test_jitter_and_its_gradient() -> None:
    data = data_of(12)
    for features in FEATURES.values():
        variables, kernel, theta = placed(features, ArcCosine(), data)
        factor = variables.covariance(kernel, theta, 0.0).factor
        more = variables.covariance(kernel, theta, 0.01).factor
        if isinstance(factor, Diagonal):
            assert isinstance(more, Diagonal)
            assert torch.equal(more.root, factor.root)
            continue
        added = more.dense @ more.dense.mT - factor.dense @ factor.dense.mT
        shares = added.diagonal() / variables.variances(kernel, theta)
        assert_close(added, torch.diag(added.diagonal()))
        assert bool(((shares - 0.01).abs().minimum(shares.abs()) < 1e-9).all())


def test_harmonics_are_independent_and_complete() -> None:
    """K_uu is diagonal without jitter, and Q_ff rises to K_ff with the degree."""
    data = data_of(30)
    gaps = []
    for degree in (2, 4, 8, 16):
        variables, kernel, theta = placed(SphericalHarmonics(degree=degree), ArcCosine(), data)
        factor = variables.covariance(kernel, theta, 0.1).factor
        assert isinstance(factor, Diagonal)
        rest = kernel.gram(theta, data.x)[0] - explained(variables, kernel, theta, data.x)
        assert float(torch.linalg.eigvalsh(rest).min()) > -1e-12
        gaps.append(float(rest.diagonal().max()))
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1e-3
    variables, kernel, theta = placed(SphericalHarmonics(degree=30), ChordalSquaredExponential(), data)
    assert_close(
        explained(variables, kernel, theta, data.x), kernel.gram(theta, data.x)[0], rtol=0.0, atol=1e-10
    )


def test_degrees_that_a_kernel_lacks_are_left_out() -> None:
    data = data_of(5, 3)
    arc, *_ = placed(SphericalHarmonics(degree=6), ArcCosine(), data)
    assert arc.degrees == (0, 1, 2, 4, 6)  # type: ignore[attr-defined]
    assert arc.count == 1 + 4 + 9 + 25 + 49
    # of the last degree the lowest orders, whole: 1 + 4 + 9 + (1 + 3)
    some, *_ = placed(SphericalHarmonics(count=20), ArcCosine(), data)
    assert some.count == 18
    assert some.degrees == (0, 1, 2, 4)  # type: ignore[attr-defined]
    for count in range(1, 90):
        assert placed(SphericalHarmonics(count=count), ArcCosine(), data)[0].count <= count
    assert [placed(SphericalHarmonics(count=9), ArcCosine(), data_of(5, d))[0].count for d in (1, 2)] == [
        9,
        9,
    ]
    assert placed(SphericalHarmonics(count=20), ArcCosine(), data_of(5, 1))[0].count == 20


def test_part_of_a_degree_is_the_same_in_all_directions() -> None:
    """What harmonics explain does not change if the columns are turned about the centre."""
    data, angle = data_of(15, 3), torch.tensor(0.7, dtype=torch.float64)
    turn = torch.eye(3, dtype=torch.float64)
    turn[:2, :2] = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos())).reshape(2, 2)
    turned = (data.x - 0.5) @ turn + 0.5
    variables, kernel, theta = placed(SphericalHarmonics(count=20), ArcCosine(), data)
    whole = placed(SphericalHarmonics(degree=4), ArcCosine(), data)[0]
    part = explained(variables, kernel, theta, data.x)
    assert_close(explained(variables, kernel, theta, turned), part)
    rest = explained(whole, kernel, theta, data.x) - part
    assert float(torch.linalg.eigvalsh(rest).min()) > -1e-12


def test_units_span_harmonics() -> None:
    """Units explain less than all harmonics of their degrees, and many of them as much."""
    data = data_of(12, 3)
    harmonics, kernel, theta = placed(SphericalHarmonics(degree=4), ArcCosine(), data)
    most = explained(harmonics, kernel, theta, data.x)
    for count in (7, 200):
        units, *_ = placed(Activations(count, Softplus(), degree=4), ArcCosine(), data)
        a = units.covariance(kernel, theta, 1e-11).factor.solve(units.cross(kernel, theta, data.x))
        assert float(torch.linalg.eigvalsh(most - a.mT @ a).min()) > -1e-8
    assert_close(a.mT @ a, most, rtol=0.0, atol=1e-3)


def test_the_three_faults_of_published_activation_features() -> None:
    data = data_of(30)
    kernel = Zonal()
    theta, dim = kernel.start(2) + 0.1, kernel.sphere_dim(2)
    k, counts = kernel.gram(theta, data.x)[0], torch.arange(1.0, 42.0, 2.0).double()

    def unexplained(features: InducingFeatures, exact: bool = False) -> Tensor:
        """K_ff - Q_ff, with the activation itself in place of its first degrees if `exact`."""
        units = features.place(data, kernel, theta, SEEDS)
        cross = units.cross(kernel, theta, data.x)
        if exact:
            rows, amplitude, _ = kernel.project(theta, data.x)
            cross = torch.relu(units.parameters.reshape(-1, dim) @ rows.mT) * amplitude
        a = units.covariance(kernel, theta, 1e-8).factor.solve(cross)
        return k - a.mT @ a

    # K_uu cut at a degree and k_u not: what is explained exceeds what there is
    assert float(unexplained(Activations(20, degree=4, smoothing=1e-9), exact=True).diagonal().min()) < -1.0
    assert float(torch.linalg.eigvalsh(unexplained(Activations(20, degree=4))).min()) > -1e-9
    # the norm diverges: the more degrees, the less units explain, unless they are smoothed
    sharp = [unexplained(Activations(20, degree=degree, smoothing=1e-9)).trace() for degree in (8, 16, 24)]
    smooth = [unexplained(Activations(20, degree=degree)).trace() for degree in (8, 16, 24)]
    assert sharp[0] < sharp[1] < sharp[2]
    assert sharp[2] > 0.9 * k.trace()
    assert max(smooth) < 0.1 * k.trace()
    norms = funk_hecke(torch.relu, dim, 20).square() / kernel.coefficients(theta, dim, 20)[0] * counts
    assert norms[2:21:2].cumsum(0)[-1] > 3.0 * norms[2:9:2].sum()
    # degrees that the activation lacks stay unexplained, until points learn them
    lacking = unexplained(Activations(60, Erf())).trace()
    assert lacking > 0.4 * k.trace()
    assert unexplained(Orthogonal(Activations(60, Erf()), 20)).trace() < 0.1 * lacking


@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
def test_the_bound_is_below_the_evidence_and_rises_with_points(features: InducingFeatures) -> None:
    data = data_of(40)
    for profile in (ArcCosine(), ChordalMatern52()):
        variables, kernel, theta = placed(features, profile, data)
        if isinstance(features, Orthogonal) and isinstance(features.base, int):
            variables = Stacked(*(Points(part) for part in variables.points.split([4, 6])))
        eta = torch.cat((theta, theta.new_tensor([-4.0])))
        model = SGPR(inducing=features, kernel=kernel, mean=0.0)
        k = kernel.gram(theta, data.x)[0] + torch.eye(40, dtype=torch.float64) * eta[-1].exp()
        evidence = torch.distributions.MultivariateNormal(torch.zeros(40, dtype=torch.float64), k)
        bound = float(model.bound(data, eta, variables))
        assert bound < float(evidence.log_prob(data.y)) + 1e-6
        more = float(model.bound(data, eta, variables.with_points(data.x[:7])))
        assert more > bound - 1e-6
        if isinstance(variables, Stacked):
            assert bound > float(model.bound(data, eta, variables.first)) - 1e-6


def test_the_bound_of_orthogonal_points_is_that_of_the_union() -> None:
    data = data_of(50)
    kernel, model = Matern52(), SGPR(mean=0.0)
    eta = torch.cat((kernel.start(2), torch.tensor([-3.0], dtype=torch.float64)))
    union = model.bound(data, eta, data.x[:20])
    parts = Stacked(Points(data.x[:12]), Points(data.x[12:20]))
    assert_close(model.bound(data, eta, parts), union, **EXACT)
    nothing = Stacked(Points(data.x[:12]), Points(data.x[:0]))
    assert_close(model.bound(data, eta, nothing), model.bound(data, eta, data.x[:12]), **EXACT)
    phi = torch.cat((eta, eta.new_zeros(1)))
    apart, alone = (SVGP().process(data, phi, each) for each in (nothing, Points(data.x[:12])))
    assert_close(apart.mean(data.x), alone.mean(data.x), **EXACT)
    assert_close(SVGP().bound(data, apart), SVGP().bound(data, alone), **EXACT)


@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
def test_the_gradient_of_a_fit_agrees_with_differences(features: InducingFeatures) -> None:
    """Of both objectives: the collapsed bound, and the evidence lower bound with q held."""
    from bo_suite.surrogates.variational.collapsed import CollapsedObjective
    from bo_suite.surrogates.variational.elbo import Model
    from bo_suite.surrogates.variational.likelihoods import StudentT
    from bo_suite.surrogates.variational.problem import VariationalState

    data = data_of(25)
    variables, kernel, theta = placed(features, ChordalMatern52(), data)
    objective = CollapsedObjective(kernel, data, variables, None, 1e-6, -3.0, 1.0, [])
    point = torch.cat((theta, theta.new_tensor([-2.0]), variables.parameters))
    model = Model(kernel, StudentT(), None, 1e-6, 2)
    eta = model.start(data.x) + 0.1
    state = VariationalState.prior(eta, variables)
    state = replace(state, linear=torch.sin(torch.arange(variables.count, dtype=torch.float64)))

    def elbo(flat: Tensor) -> tuple[Tensor, Tensor]:
        moved = variables.moved(flat[len(eta) :])
        expectation = model.expectation(flat[: len(eta)], moved, state.q, data, slice(None))
        return expectation.value, torch.cat(expectation.by_parameters(1.0))

    for function, start in ((objective, point), (elbo, torch.cat((eta, variables.parameters)))):
        gradient = function(start)[1]
        for entry in range(0, len(start), 1 + len(start) // 9):
            step = torch.zeros_like(start)
            step[entry] = 1e-5
            slope = float(function(start + step)[0] - function(start - step)[0]) / 2e-5
            assert abs(float(gradient[entry]) - slope) < 2e-4 * (1.0 + abs(slope)), entry


@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
def test_a_process_streams_and_is_conditioned(features: InducingFeatures) -> None:
    data = data_of(40)
    model = SGPR(inducing=features, mean=0.0)
    variables, kernel, theta = placed(features, ArcCosine(), data)
    model = replace(model, kernel=kernel)
    eta, test = torch.cat((theta, theta.new_tensor([-4.0]))), data_of(6, seed=3).x
    whole = model.process(data, eta, variables)
    first = Dataset(data.x[:30], data.y[:30])
    streamed = model.process(first, eta, variables).absorb(data.x[30:], data.y[30:])
    for one, other in (
        (streamed, whole),
        (streamed.release(data.x[30:], data.y[30:]), model.process(first, eta, variables)),
    ):
        assert_close(one.mean(test), other.mean(test), **EXACT)
        assert_close(one.cov(test, test), other.cov(test, test), **EXACT)
    _is_conditioned_exactly(whole, test)
    _is_conditioned_exactly(whole.condition(test[:1], test[:1, 0]), test)


@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
def test_a_process_that_was_used_is_pickled(features: InducingFeatures) -> None:
    data, test = data_of(20), data_of(4, seed=3).x
    variables, kernel, theta = placed(features, ChordalMatern52(), data)
    eta = torch.cat((theta, theta.new_tensor([-2.0])))
    process = SGPR(inducing=features, kernel=kernel, mean=0.0).process(data, eta, variables)
    mean = process.mean(test)
    assert torch.equal(pickle.loads(pickle.dumps(process)).mean(test), mean)
    assert torch.equal(copy.deepcopy(process).mean(test), mean)


def _is_conditioned_exactly(process: SparseProcess, test: Tensor) -> None:
    """Conditioning is Gaussian conditioning of the process itself."""
    x, y = data_of(3, seed=5).x, torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
    noisy = process.cov(x, x) + torch.eye(3, dtype=torch.float64) * process.noise
    gain = torch.linalg.solve(noisy, process.cov(x, test)).mT
    conditioned = process.condition(x, y)
    assert_close(conditioned.mean(test), process.mean(test) + gain @ (y - process.mean(x)), **EXACT)
    assert_close(conditioned.cov(test, test), process.cov(test, test) - gain @ process.cov(x, test), **EXACT)


@pytest.mark.parametrize("profile", [ArcCosine(), ChordalMatern52()], ids=["arc", "matern"])
@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
def test_paths_have_the_moments_of_the_process(features: InducingFeatures, profile: Any) -> None:
    data = data_of(40)
    variables, kernel, theta = placed(features, profile, data)
    eta, test = torch.cat((theta, theta.new_tensor([-2.0]))), data_of(4, seed=3).x
    process = SGPR(inducing=features, kernel=kernel, mean=0.0).process(data, eta, variables)
    draws = torch.cat([draw_paths(process, 500, Seeds.of(key, 0), features=512)(test) for key in range(8)])
    cov = process.cov(test, test)
    error = (cov.diagonal() / draws.shape[0]).sqrt()
    assert bool(((draws.mean(0) - process.mean(test)).abs() < 5.0 * error).all())
    prior = float(kernel.diagonal(theta, test).max())
    assert_close(torch.cov(draws.mT), cov, rtol=0.15, atol=0.03 * prior)


@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
def test_features_keep_the_contract_of_a_surrogate(features: InducingFeatures) -> None:
    check_surrogate(SGPR(inducing=features))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["harmonics", "units and points"])
def test_features_keep_the_contract_with_other_training(name: str) -> None:
    check_surrogate(SVGP(inducing=FEATURES[name]))
    check_surrogate(SGPR(inducing=FEATURES[name], kernel=Zonal(ChordalMatern52()), learn_inducing=True))


def test_one_column_is_a_circle() -> None:
    data = data_of(60, 1)
    exact = ExactGP(kernel=Zonal(ChordalMatern52())).fit(data, SEEDS)
    sparse = SGPR(inducing=SphericalHarmonics(count=40), kernel=Zonal(ChordalMatern52())).fit(data, SEEDS)
    assert sparse.inducing.shape == (0, 1)
    assert_close(sparse.mean(data.x), exact.mean(data.x), rtol=0.0, atol=0.1)


def test_mistakes_are_told_in_one_sentence() -> None:
    data = data_of(5, 6)
    theta = Matern52().start(6)
    for features in (
        SphericalHarmonics(degree=2),
        Activations(3),
        Orthogonal(SphericalHarmonics(degree=1), 2),
    ):
        with pytest.raises(DataError, match="need a kernel of the angle between rows"):
            features.place(data, Matern52(), theta, SEEDS)
        with pytest.raises(DataError, match="need a kernel of the angle between rows"):
            SGPR(inducing=features, kernel=Matern52()).fit(data, SEEDS)
    with pytest.raises(DataError, match="more than 4096: take degree <= 5, or give their count"):
        SGPR(inducing=SphericalHarmonics(degree=9)).fit(data_of(5, 9), SEEDS)
    for make, message in (
        (
            lambda: SphericalHarmonics(degree=2, count=9),
            "degree of spherical harmonics or their count, not both",
        ),
        (lambda: SphericalHarmonics(degree=-1), "`degree >= 0` must hold, a whole number, got -1"),
        (lambda: SphericalHarmonics(count=0), "`count >= 1` must hold, a whole number, got 0"),
        (lambda: SphericalHarmonics(count=10**6), "at most 4096 spherical harmonics"),
        (lambda: Activations(0), "`count >= 1` must hold, a whole number, got 0"),
        (lambda: Activations(4, degree=0), "`degree >= 1` must hold"),
        (lambda: Activations(4, 3.0), "an activation must be a function of cosines, got 3.0"),  # type: ignore[arg-type]
        (lambda: Activations(4, smoothing=0.0), "`0 < smoothing < inf` must hold, got 0.0"),
        (lambda: Erf(0.0), "`0 < steepness < inf` must hold, got 0.0"),
        (lambda: Orthogonal(0, 3), "`base >= 1` must hold"),
        (lambda: Orthogonal(3, 0), "`points >= 1` must hold"),
        (lambda: Orthogonal(SphericalHarmonics), "`base >= 1` must hold"),  # type: ignore[arg-type]
        (lambda: Orthogonal(3, True), "`points >= 1` must hold, a whole number, got True"),
        (lambda: SphericalHarmonics(degree=True), "`degree >= 0` must hold, a whole number, got True"),
        (lambda: Activations(True), "`count >= 1` must hold, a whole number, got True"),
        (lambda: Activations(4, Softplus), "an activation must be a function of cosines"),  # type: ignore[arg-type]
        (lambda: SGPR(inducing=True), "`inducing >= 1` must hold, a whole number, got True"),
        (lambda: SGPR(inducing=SphericalHarmonics), "`inducing >= 1` must hold"),  # type: ignore[arg-type]
        (lambda: SVGP(inducing=Activations), "`inducing >= 1` must hold"),  # type: ignore[arg-type]
    ):
        with pytest.raises(DataError, match=message):
            make()


@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
def test_a_process_predicts_in_inference_mode(features: InducingFeatures) -> None:
    data = data_of(9)
    process = SGPR(inducing=features).fit(data, SEEDS)
    with torch.inference_mode():
        mean, var = process.mean_and_var(data.x)
    assert_close(mean, process.mean(data.x))
    assert_close(var, process.var(data.x))
