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


def test_an_entry_larger_than_the_cache_is_not_kept_and_evicts_no_other() -> None:
    cache: ByteLru[str, int] = ByteLru(3)
    cache.put("a", 1, 1)
    cache.put("b", 2, 4)
    assert (cache.get("a"), cache.get("b")) == (1, None)


def test_a_new_value_takes_the_place_of_the_old_one_and_of_no_other() -> None:
    cache: ByteLru[str, int] = ByteLru(10)
    cache.put("a", 1, 6)
    cache.put("b", 2, 3)
    cache.put("a", 3, 7)
    assert (cache.get("a"), cache.get("b"), cache.nbytes) == (3, 2, 10)
    cache.put("a", 4, 11)
    assert (cache.get("a"), cache.get("b"), cache.nbytes) == (None, 2, 3)


def test_looking_whether_a_key_is_kept_is_no_use_of_it() -> None:
    cache: ByteLru[str, int] = ByteLru(2)
    cache.put("a", 1, 1)
    cache.put("b", 2, 1)
    assert "a" in cache
    cache.put("c", 3, 1)
    assert ("a" in cache, "b" in cache) == (False, True)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12)), max_size=50))
def test_bytes_are_counted_and_bounded(puts: list[tuple[int, int]]) -> None:
    cache: ByteLru[int, int] = ByteLru(10)
    for key, nbytes in puts:
        cache.put(key, nbytes, nbytes)
        assert cache.nbytes == sum(cache.get(known) or 0 for known in range(6)) <= 10
