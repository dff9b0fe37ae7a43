from hypothesis import given
from hypothesis import strategies as st

from service.caching.lru import ByteLru


def test_the_least_recently_used_entry_goes_first() -> None:
    cache: ByteLru[str, int] = ByteLru(3)
    for key in "abc":
        cache.put(key, ord(key), 1)
    cache.get("a")
    cache.put("d", 0, 1)
    assert [key for key in "abcd" if cache.get(key) is not None] == ["a", "c", "d"]


def test_an_entry_larger_than_the_cache_is_not_kept_and_costs_nobody_its_place() -> None:
    cache: ByteLru[str, int] = ByteLru(3)
    cache.put("a", 1, 1)
    cache.put("b", 2, 4)
    assert (cache.get("a"), cache.get("b")) == (1, None)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12)), max_size=50))
def test_bytes_are_counted_and_bounded(puts: list[tuple[int, int]]) -> None:
    cache: ByteLru[int, int] = ByteLru(10)
    for key, nbytes in puts:
        cache.put(key, nbytes, nbytes)
        assert cache.nbytes == sum(cache.get(known) or 0 for known in range(6)) <= 10
