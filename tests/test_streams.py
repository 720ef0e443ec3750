"""Random streams: pinned, independent of each other, and what they are said to be."""

import itertools

import numpy as np
import pytest

from lenet.streams import Purpose, permutation, stream, uniform

# Raw values of (seed, purpose, epoch). A change of any of them changes every result of every seed.
PINNED = {
    (1, Purpose.INITIALIZATION, 0): [0x3272837DC9F83307, 0x7CF111BED06ED457],
    (1, Purpose.ORDER, 0): [0x7D1B75DA0DF5CDFA, 0xD85207A837E9CC35],
    (1, Purpose.DISTORTION, 0): [0xB543F7D9CE1C2DD7, 0x5355BA740F198F0E],
    (1, Purpose.VALIDATION, 0): [0x7C75CE8ABAF64394, 0x9FD40692520CBA8C],
    (1, Purpose.ORDER, 7): [0x9F8AD17EBDE0EC8D],
}


@pytest.mark.parametrize(("key", "values"), PINNED.items(), ids=str)
def test_raw_values_never_change(key: tuple[int, Purpose, int], values: list[int]) -> None:
    assert stream(*key).random_raw(len(values)).tolist() == values


def test_drawn_values_never_change() -> None:
    assert permutation(stream(1, Purpose.ORDER, 1), 8).tolist() == [3, 6, 1, 4, 0, 5, 7, 2]
    # the upper 53 of 64 bits, from [0, 1) to [-1, 1)
    first = (0x3272837DC9F83307 >> 11) / 2**53
    assert uniform(stream(1, Purpose.INITIALIZATION), -1, 1, (1,)).tolist() == [2 * first - 1]


def test_purposes_keep_their_numbers() -> None:
    assert {purpose.name: purpose.value for purpose in Purpose} == {
        "INITIALIZATION": 1,
        "ORDER": 2,
        "DISTORTION": 3,
        "VALIDATION": 4,
        "REPLAY": 5,
    }


def test_streams_have_no_value_in_common() -> None:
    keys = itertools.product((0, 1, 2**63 - 1), Purpose, (0, 1, 2, 2**32 - 1))
    values = np.concatenate([stream(*key).random_raw(1000) for key in keys])
    assert len(np.unique(values)) == len(values)  # 48 000 values of 64 bits: a chance collision has odds of 1e-10


def test_streams_are_uncorrelated() -> None:
    keys = itertools.product((1, 2), Purpose, (0, 1))
    rows = np.array([uniform(stream(*key), -1, 1, (4000,)) for key in keys])
    correlation = np.corrcoef(rows) - np.eye(len(rows))
    assert abs(correlation).max() < 5 / np.sqrt(4000)


def test_a_stream_depends_on_nothing_drawn_before() -> None:
    first = stream(5, Purpose.ORDER, 3).random_raw(10)
    np.random.Generator(stream(5, Purpose.ORDER, 3)).random(100)
    assert (stream(5, Purpose.ORDER, 3).random_raw(10) == first).all()


@pytest.mark.parametrize("count", [0, 1, 2, 7, 60000])
def test_permutation_names_everything_once(count: int) -> None:
    order = permutation(stream(3, Purpose.ORDER, 1), count)
    assert order.dtype == np.int32
    assert sorted(order.tolist()) == list(range(count))


def test_permutation_favors_no_place() -> None:
    """Each of 5 things is first in a fifth of 2000 permutations, within 5 standard deviations."""
    first = [int(permutation(stream(1, Purpose.ORDER, epoch), 5)[0]) for epoch in range(2000)]
    assert abs(np.bincount(first, minlength=5) - 400).max() < 5 * np.sqrt(2000 * 0.2 * 0.8)


def test_uniform_fills_its_range() -> None:
    values = uniform(stream(1, Purpose.DISTORTION, 1), -2.5, 0.5, (100, 300))
    assert values.shape == (100, 300)
    assert values.dtype == np.float64
    assert values.min() >= -2.5
    assert values.max() < 0.5
    counts = np.histogram(values, bins=30, range=(-2.5, 0.5))[0]
    assert abs(counts - 1000).max() < 5 * np.sqrt(1000)


def test_uniform_of_an_empty_range_is_that_number() -> None:
    assert (uniform(stream(1, Purpose.DISTORTION), 0.25, 0.25, (3,)) == 0.25).all()


def test_uniform_reaches_the_ends_of_its_range_and_not_beyond() -> None:
    class Ends:
        def random_raw(self, size: int) -> np.ndarray:
            return np.array([0, 2**64 - 1], np.uint64)

    low, high = uniform(Ends(), 0.0, 1.0, (2,))  # type: ignore[arg-type]
    assert low == 0.0
    assert high == 1 - 2**-53
