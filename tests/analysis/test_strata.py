"""Arms and strata: which axes apply, what differs, and that the search for pairs misses none."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.strata import Arm, Stratum, comparable_pairs, labels, unsaid

arms = st.builds(
    Arm.of,
    st.sampled_from(["sft-only", "rho-guided", "contrastive-only", "shuffled-pairs"]),
    st.sampled_from([0.0, 0.2, 0.5]),
    st.sampled_from([None, 0.0, 0.1]),
)
strata = st.builds(
    Stratum,
    kind=st.just("alignment"),
    model=st.sampled_from(["tiny", "small"]),
    model_fingerprint=st.just("abc"),
    arm=arms,
    settings=st.dictionaries(st.sampled_from(["lr", "rank", "contrast"]), st.sampled_from(["1", "2"])).map(
        lambda config: tuple(sorted(config.items()))
    ),
)


def test_axes_without_effect_do_not_count() -> None:
    sft = Arm.of("sft-only", 0.0, 0.1)
    assert sft == Arm.of("sft-only", 0.2, None)
    guided = Arm.of("rho-guided", 0.2, 0.1)
    assert guided.differences(sft) == 1
    assert guided.differences(Arm.of("rho-guided", 0.2, 0.0)) == 1
    assert guided.differences(Arm.of("rho-guided", 0.5, 0.0)) == 2
    assert guided.differences(Arm.of("rho-guided", 0.0, 0.0)) == 1  # no hinge at λ = 0, so no γ
    assert guided.differences(Arm.of("contrastive-only", 0.5, 0.1)) == 2
    assert guided.differences(Arm.of("rho-guided", 0.5, None)) == 2  # an unknown γ is not the same γ


@given(st.lists(strata, max_size=12, unique=True))
@settings(max_examples=80, deadline=None)
def test_pairs_are_exactly_the_comparable_ones(found: list[Stratum]) -> None:
    pairs = comparable_pairs(found)
    expected = {frozenset(p) for p in combinations(found, 2) if p[0].model == p[1].model and p[0].comparable(p[1])}
    assert len(pairs) == len(expected)
    assert {frozenset(pair) for pair in pairs} == expected
    assert not any(a.arm.condition == "sft-only" for a, _ in pairs)


@given(st.lists(strata, max_size=8, unique=True))
@settings(max_examples=80, deadline=None)
def test_strata_of_a_model_never_share_a_label(found: list[Stratum]) -> None:
    names = labels(found)
    for one, other in combinations(found, 2):
        assert one.model != other.model or names[one] != names[other]


def test_labels_name_only_what_varies() -> None:
    def stratum(arm: Arm, **config: str) -> Stratum:
        settings = tuple(sorted(config.items()))
        return Stratum(kind="alignment", model="tiny", model_fingerprint="abc", arm=arm, settings=settings)

    sft = stratum(Arm.of("sft-only", 0.0, None), lr="0.1")
    low = stratum(Arm.of("rho-guided", 0.2, 0.1), lr="0.1", contrast='"text"')
    high = stratum(Arm.of("rho-guided", 0.5, 0.1), lr="0.1", contrast='"text"')
    assert list(labels([sft, low]).values()) == ["sft-only", "rho-guided"]
    assert list(labels([sft, low, high]).values()) == ["sft-only", "rho-guided λ=0.2", "rho-guided λ=0.5"]
    old = stratum(Arm.of("rho-guided", 0.2, 0.1), lr="0.1")
    assert list(labels([low, old]).values()) == ["rho-guided contrast=text", "rho-guided contrast=unset"]


def test_what_most_strata_share_is_said_once() -> None:
    def stratum(weight: float, epochs: str) -> Stratum:
        arm = Arm.of("rho-guided", weight, 0.1)
        settings = (("epochs", epochs),)
        return Stratum(kind="alignment", model="tiny", model_fingerprint="abc", arm=arm, settings=settings)

    found = [stratum(0.2, "1"), stratum(0.5, "1"), stratum(0.2, "2")]
    assert list(labels(found).values()) == ["rho-guided λ=0.2", "rho-guided λ=0.5", "rho-guided λ=0.2 epochs=2"]
    assert unsaid(found) == ["tiny: where a label does not say otherwise, epochs=1"]
    half = [stratum(0.2, "1"), stratum(0.2, "2")]
    assert list(labels(half).values()) == ["rho-guided epochs=1", "rho-guided epochs=2"]
    assert unsaid(half) == []


def test_arms_of_two_experiments_are_compared_only_where_neither_has_the_others() -> None:
    def stratum(experiment: str, weight: float, margin: float) -> Stratum:
        arm = Arm.of("rho-guided", weight, margin)
        return Stratum(kind="a", model="m", model_fingerprint="f", arm=arm, settings=(), experiment=experiment)

    sweep = [stratum("sweep", weight, 0.1) for weight in (0.1, 0.2)]
    again, control = stratum("again", 0.2, 0.1), stratum("control", 0.2, 0.0)
    pairs = {frozenset(pair) for pair in comparable_pairs([*sweep, again, control])}
    assert pairs == {
        frozenset(sweep),  # within the experiment
        frozenset((control, sweep[1])), frozenset((control, again)),  # the control has no γ 0.1, they have no γ 0
    }  # fmt: skip  # and never sweep's λ 0.1 against again's λ 0.2, which sweep has itself
