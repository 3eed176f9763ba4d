from mpisa.network.limits import KeyedLimiter, TokenBucket


def test_a_bucket_gives_its_burst_then_its_rate():
    bucket = TokenBucket(rate=2.0, burst=3.0, tokens=3.0, updated=0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(0.5) for _ in range(2)] == [True, False]
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]


def test_time_that_goes_back_gives_nothing():
    bucket = TokenBucket(rate=1.0, burst=1.0, tokens=0.0, updated=10.0)
    assert not bucket.take(5.0)


def test_keys_are_limited_apart_and_bounded_in_number():
    limiter = KeyedLimiter(rate=0.0, burst=1.0, max_keys=2)
    assert limiter.take("a", 0.0)
    assert not limiter.take("a", 0.0)
    assert limiter.take("b", 0.0)
    assert limiter.take("c", 0.0)
    assert len(limiter) == 2
    assert limiter.take("a", 0.0), "the least recently used was forgotten, and starts full"
