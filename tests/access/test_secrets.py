from coterie.access import secret_matches


def test_only_the_secret_matches() -> None:
    assert secret_matches(b"k" * 16, b"k" * 16)
    for offered in (b"", b"k" * 15, b"k" * 17, b"j" * 16):
        assert not secret_matches(offered, b"k" * 16)


def test_nothing_matches_nothing() -> None:
    assert not secret_matches(bytes(16), None)
    assert not secret_matches(b"", None)
