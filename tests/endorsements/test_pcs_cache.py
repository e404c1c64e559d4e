"""The cache of a provisioning service's answers: never past what its content says, never anything but an answer."""

from __future__ import annotations

import importlib.util
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dokimos.endorsements.fetch import (
    EVALUATION_NUMBERS,
    PCK_CRL,
    QE_IDENTITY,
    ROOT_CRL,
    TCB_INFO,
    PcsFetcher,
    fetch_collateral,
)
from dokimos.endorsements.pcs_cache import PcsCache, Response
from dokimos.errors import MaterialUnavailable


def _load_fake():
    path = Path(__file__).resolve().parent / "fake_pcs.py"
    spec = importlib.util.spec_from_file_location("fake_pcs", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


fake = _load_fake()
BODIES, NOW, QUOTE, answer = fake.BODIES, fake.NOW, fake.QUOTE, fake.answer


@pytest.fixture
def service():
    running = fake.Service()
    yield running
    running.close()


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def cached(service, clock, tmp_path):
    return PcsFetcher(service.url, cache=tmp_path / "cache", clock=clock, longest=timedelta(days=365))


def test_an_answer_is_taken_from_the_cache_while_it_holds(service, cached, clock, tmp_path):
    first = fetch_collateral(QUOTE, cached)
    clock.now += timedelta(days=19)
    assert fetch_collateral(QUOTE, cached) == first
    assert len(service.asked) == 4
    names = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert len(names) == 4
    assert all(name.endswith(".json") and not name.startswith(".") for name in names)
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("path", "ends"),
    [
        (TCB_INFO, datetime(2026, 4, 15, 22, 21, 30, tzinfo=UTC)),
        (QE_IDENTITY, datetime(2026, 4, 15, 22, 21, 30, tzinfo=UTC)),
        (EVALUATION_NUMBERS, datetime(2026, 4, 15, 22, 21, 30, tzinfo=UTC)),
        (PCK_CRL, NOW + timedelta(days=20)),
        (ROOT_CRL, NOW + timedelta(days=20)),
    ],
)
def test_the_cache_never_outlives_next_update(service, cached, clock, path, ends):
    params = {"fmspc": "90c06f000000"}
    cached.get(path, params)
    clock.now = ends - timedelta(seconds=1)
    cached.get(path, params)
    assert len(service.asked) == 1
    clock.now = ends
    cached.get(path, params)
    assert len(service.asked) == 2


def test_a_stale_answer_is_not_taken_even_where_the_service_is_gone(service, cached, clock):
    cached.get(QE_IDENTITY, {})
    clock.now += timedelta(days=40)
    service.faults[QE_IDENTITY] = [lambda handler: answer(handler, b"", status=404)]
    with pytest.raises(MaterialUnavailable, match="404"):
        cached.get(QE_IDENTITY, {})


def test_a_service_that_answers_with_stale_content_is_asked_each_time(service, cached, clock):
    clock.now += timedelta(days=40)
    for _ in range(2):
        assert cached.get(QE_IDENTITY, {}).body == BODIES[QE_IDENTITY]
    assert len(service.asked) == 2


def test_an_answer_is_not_kept_longer_than_a_day_unless_asked(service, clock, tmp_path):
    fetcher = PcsFetcher(service.url, cache=tmp_path, clock=clock)
    fetcher.get(ROOT_CRL, {})
    clock.now += timedelta(hours=23)
    fetcher.get(ROOT_CRL, {})
    assert len(service.asked) == 1
    clock.now += timedelta(hours=2)
    fetcher.get(ROOT_CRL, {})
    assert len(service.asked) == 2


def test_an_answer_from_the_future_is_not_taken(service, cached, clock):
    cached.get(QE_IDENTITY, {})
    clock.now -= timedelta(seconds=1)
    cached.get(QE_IDENTITY, {})
    assert len(service.asked) == 2


def test_each_question_has_its_own_answer(service, clock, tmp_path):
    for options in ({}, {"update": "early"}, {"update": "standard"}, {"evaluation_data_number": 18}):
        PcsFetcher(service.url, cache=tmp_path, clock=clock, **options).get(QE_IDENTITY, {})
    assert len(service.asked) == 4


def change(folder, **changes):
    for path in folder.iterdir():
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": "other"},
        {"url": "http://other.invalid/"},
        {"fetched": "yesterday"},
        {"holds_until": None},
        {"headers": []},
        {"headers": {"a": 1}},
        {"body": "!"},
        {"body": 1},
    ],
)
def test_a_file_of_the_cache_that_was_changed_counts_as_none(service, cached, tmp_path, changes):
    cached.get(QE_IDENTITY, {})
    change(tmp_path / "cache", **changes)
    assert cached.get(QE_IDENTITY, {}).body == BODIES[QE_IDENTITY]
    assert len(service.asked) == 2


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 9999, b"\xff", bytes(5 << 20)])
def test_a_file_of_the_cache_that_is_none_counts_as_none(service, cached, tmp_path, content):
    cached.get(QE_IDENTITY, {})
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(content)
    assert cached.get(QE_IDENTITY, {}).body == BODIES[QE_IDENTITY]
    assert len(service.asked) == 2


def test_a_cache_that_cannot_be_written_is_no_failure(service, clock, tmp_path):
    (tmp_path / "file").write_text("")
    fetcher = PcsFetcher(service.url, cache=tmp_path / "file" / "cache", clock=clock)
    for _ in range(2):
        assert fetcher.get(QE_IDENTITY, {}).body == BODIES[QE_IDENTITY]
    assert len(service.asked) == 2


def test_a_write_that_fails_leaves_the_old_answer_and_nothing_else(tmp_path, monkeypatch):
    cache = PcsCache(tmp_path)
    old = Response(body=b"old", headers={}, url="http://x.invalid/", fetched=NOW)
    cache.put(old, NOW + timedelta(hours=1))

    def no_space(*_):
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", no_space)
        cache.put(Response(body=b"new", headers={}, url="http://x.invalid/", fetched=NOW), NOW + timedelta(hours=1))
    assert cache.get("http://x.invalid/", NOW) == old
    assert len(list(tmp_path.iterdir())) == 1
