"""Every place of an OCSP answer, and of a responder's certificate, in which something else may stand."""

from __future__ import annotations

import importlib.util
from datetime import timedelta
from pathlib import Path

import pytest

from dokimos.endorsements.ocsp import MAX_OCSP, CertStatus, parse_ocsp, parse_responder
from dokimos.endorsements.status_points import status_points
from dokimos.errors import Check, MalformedEvidence


def _load_seeds():
    path = Path(__file__).resolve().parent.parent / "fuzz/fuzz_ocsp.py"
    spec = importlib.util.spec_from_file_location("fuzz_ocsp", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


seeds = _load_seeds()
tlv = seeds.tlv
TIME, NULL = tlv(0x18, seeds.TIME), b"\5\0"
BASIC = tlv(6, bytes.fromhex("2b0601050507300101"))
GOOD = b"\x80\0"
BY_NAME, BY_KEY = tlv(0xA1, seeds.name("responder")), tlv(0xA2, tlv(4, b"h" * 20))
ALGORITHM = tlv(0x30, tlv(6, seeds.SHA384), NULL)
SIGNATURE = tlv(3, b"\0signature")


def identity(*, algorithm=ALGORITHM, name=None, key=None, serial=None):
    return tlv(0x30, algorithm, name or tlv(4, b"n" * 48), key or tlv(4, b"k" * 48), serial or tlv(2, b"\7"))


def single(*more, who=None, status=GOOD, this=TIME, tag=0x30):
    return tlv(tag, identity() if who is None else who, status, this, *more)


def data(*more, responder=BY_NAME, produced=TIME, singles=None):
    return tlv(0x30, responder, produced, tlv(0x30, single()) if singles is None else singles, *more)


def basic(*more, tbs=None, algorithm=seeds.ECDSA_SHA384, signature=SIGNATURE):
    return tlv(0x30, data() if tbs is None else tbs, algorithm, signature, *more)


def wrapped(content=None, *more, kind=BASIC, tag=4):
    return tlv(0xA0, tlv(0x30, kind, tlv(tag, basic() if content is None else content), *more))


def answer(*more, status=b"\x0a\1\0", content=None):
    return tlv(0x30, status, wrapped() if content is None else content, *more)


def of(**options):
    return answer(content=wrapped(basic(tbs=data(**options))))


def of_single(*more, **options):
    return of(singles=tlv(0x30, single(*more, **options)))


def extended(*extensions):
    return answer(content=wrapped(basic(tbs=data(tlv(0xA1, tlv(0x30, *extensions))))))


def nonce(value, tag=4):
    return extended(seeds.extension("2b0601050507300102", tlv(tag, value)))


NEXT = tlv(0xA0, TIME)
LOOSE = tlv(0xA1, tlv(0x30, seeds.extension("2a0304", NULL)))
CRITICAL = tlv(0xA1, tlv(0x30, seeds.extension("2a0304", NULL, critical=True)))


def revoked(*parts):
    return of_single(status=tlv(0xA1, *parts))


TAKEN = {
    "plain": answer(),
    "by key": of(responder=BY_KEY),
    "next": of_single(NEXT),
    "extension": of_single(LOOSE),
    "next and extension": of_single(NEXT, LOOSE),
    "no parameters": of_single(who=identity(algorithm=tlv(0x30, tlv(6, seeds.SHA384)))),
    "certificates": answer(content=wrapped(basic(tlv(0xA0, tlv(0x30, tlv(0x30), tlv(0x30)))))),
    "no certificate": answer(content=wrapped(basic(tlv(0xA0, tlv(0x30))))),
    "nonce of one": nonce(b"n"),
    "nonce of 128": nonce(b"n" * 128),
    "other extension": extended(seeds.extension("2a0304", NULL)),
    "revoked": revoked(TIME),
    "64 certificates": of(singles=tlv(0x30, *[single()] * 64)),
}
REFUSED = {
    "nothing": tlv(0x30),
    "status alone": tlv(0x30, b"\x0a\1\0"),
    "status of another type": answer(status=b"\2\1\0"),
    "a status of failure with content": answer(status=b"\x0a\1\1"),
    "more behind": answer(NULL),
    "content of another tag": answer(content=b"\xa1" + wrapped()[1:]),
    "a type that is no OID": answer(content=wrapped(kind=tlv(4, b"2b0601050507300101"))),
    "another type": answer(content=wrapped(kind=tlv(6, bytes.fromhex("2b0601050507300103")))),
    "another string": answer(content=wrapped(tag=3)),
    "more behind the string": answer(content=wrapped(None, NULL)),
    "signed part no sequence": answer(content=wrapped(basic(tbs=tlv(0x31)))),
    "algorithm no sequence": answer(content=wrapped(basic(algorithm=NULL))),
    "signature no bits": answer(content=wrapped(basic(signature=tlv(4, b"\0s")))),
    "signature of odd bits": answer(content=wrapped(basic(signature=tlv(3, b"\1s")))),
    "certificates of another tag": answer(content=wrapped(basic(tlv(0xA1, tlv(0x30))))),
    "certificates twice": answer(content=wrapped(basic(tlv(0xA0, tlv(0x30)), tlv(0xA0, tlv(0x30))))),
    "certificates no sequence": answer(content=wrapped(basic(tlv(0xA0, tlv(0x31))))),
    "a certificate no sequence": answer(content=wrapped(basic(tlv(0xA0, tlv(0x30, NULL))))),
    "five certificates": answer(content=wrapped(basic(tlv(0xA0, tlv(0x30, *[tlv(0x30)] * 5))))),
    "version 1 written out": answer(content=wrapped(basic(tbs=tlv(0x30, tlv(0xA0, b"\2\1\0"), data()[2:])))),
    "responder of another tag": of(responder=tlv(0xA3, seeds.name("x"))),
    "responder's name no sequence": of(responder=tlv(0xA1, tlv(0x31))),
    "responder's key no string": of(responder=tlv(0xA2, tlv(3, b"h" * 20))),
    "responder's key of 32": of(responder=tlv(0xA2, tlv(4, b"h" * 32))),
    "produced in another form": of(produced=tlv(0x17, b"260701120000Z")),
    "answers no sequence": of(singles=tlv(0x31, single())),
    "no answer": of(singles=tlv(0x30)),
    "65 answers": of(singles=tlv(0x30, *[single()] * 65)),
    "extensions of another tag": answer(content=wrapped(basic(tbs=data(tlv(0xA2, tlv(0x30)))))),
    "extensions twice": answer(content=wrapped(basic(tbs=data(tlv(0xA1, tlv(0x30)), tlv(0xA1, tlv(0x30)))))),
    "a nonce of nothing": nonce(b""),
    "a nonce of 129": nonce(b"n" * 129),
    "a nonce of another type": nonce(b"n", 3),
    "a nonce twice": extended(*[seeds.extension("2b0601050507300102", tlv(4, b"n"))] * 2),
    "an unknown critical extension": extended(seeds.extension("2a0304", NULL, critical=True)),
    "an answer no sequence": of(singles=tlv(0x30, single(tag=0x31))),
    "an answer cut short": of(singles=tlv(0x30, tlv(0x30, identity(), GOOD))),
    "identity no sequence": of_single(who=tlv(0x31)),
    "identity of three": of_single(who=tlv(0x30, ALGORITHM, tlv(4, b"n"), tlv(4, b"k"))),
    "identity of five": of_single(who=tlv(0x30, ALGORITHM, tlv(4, b"n"), tlv(4, b"k"), b"\2\1\7", NULL)),
    "name no string": of_single(who=identity(name=tlv(3, b"\0n"))),
    "key no string": of_single(who=identity(key=tlv(3, b"\0k"))),
    "serial no integer": of_single(who=identity(serial=tlv(4, b"\7"))),
    "serial not minimal": of_single(who=identity(serial=tlv(2, b"\0\7"))),
    "algorithm empty": of_single(who=identity(algorithm=tlv(0x30))),
    "algorithm no OID": of_single(who=identity(algorithm=tlv(0x30, tlv(4, seeds.SHA384)))),
    "parameters": of_single(who=identity(algorithm=tlv(0x30, tlv(6, seeds.SHA384), tlv(0x30)))),
    "this update in another form": of_single(this=tlv(0x17, b"260701120000Z")),
    "this update on no day": of_single(this=tlv(0x18, b"20260732120000Z")),
    "next update in another form": of_single(tlv(0xA0, tlv(0x17, b"260701120000Z"))),
    "next update twice": of_single(NEXT, NEXT),
    "next update behind": of_single(LOOSE, NEXT),
    "an answer's extension that is critical": of_single(CRITICAL),
    "it and a next update": of_single(NEXT, CRITICAL),
    "an hour behind the end of time": of_single(this=tlv(0x18, b"99991231235959Z")),
    "good with content": of_single(status=b"\x80\1\0"),
    "unknown with content": of_single(status=b"\x82\1\0"),
    "another status": of_single(status=b"\x83\0"),
    "revoked without a time": revoked(),
    "revoked with another time": revoked(tlv(0x17, b"260701120000Z")),
    "revoked on no day": revoked(tlv(0x18, b"20260732120000Z")),
    "revoked with a bare reason": revoked(TIME, b"\x0a\1\6"),
    "revoked with a reason of another type": revoked(TIME, tlv(0xA0, b"\2\1\6")),
    "revoked with more": revoked(TIME, tlv(0xA0, b"\x0a\1\6"), NULL),
}


@pytest.mark.parametrize("name", TAKEN)
def test_every_form_that_the_standard_allows_is_read(name):
    assert parse_ocsp(TAKEN[name]).singles


@pytest.mark.parametrize("name", REFUSED)
def test_every_other_form_is_malformed(name):
    with pytest.raises(MalformedEvidence) as caught:
        parse_ocsp(REFUSED[name])
    assert caught.value.check is Check.GPU_OCSP_FORMAT


@pytest.mark.parametrize("reason", range(11))
def test_a_hold_is_the_reason_of_that_number_only(reason):
    (found,) = parse_ocsp(revoked(TIME, tlv(0xA0, bytes((0x0A, 1, reason))))).singles
    assert found.status is (CertStatus.HOLD if reason == 6 else CertStatus.REVOKED)


def test_a_next_update_counts_where_it_is_stated_whatever_stands_behind_it():
    stated = tlv(0xA0, tlv(0x18, b"20260701120005Z"))
    for more in ((stated,), (stated, LOOSE)):
        (found,) = parse_ocsp(of_single(*more)).singles
        assert (found.stated, found.next_update - found.this_update) == (True, timedelta(seconds=5))
    (found,) = parse_ocsp(of_single(LOOSE)).singles
    assert (found.stated, found.next_update - found.this_update) == (False, timedelta(hours=1))


def test_the_largest_answer_is_read_and_no_larger_one():
    plain = answer(content=wrapped(basic(signature=tlv(3, b"\0" * 60_000))))
    largest = answer(content=wrapped(basic(signature=tlv(3, b"\0" * (60_000 + MAX_OCSP - len(plain))))))
    assert len(largest) == MAX_OCSP
    assert parse_ocsp(largest)
    with pytest.raises(MalformedEvidence, match="larger than"):
        parse_ocsp(answer(content=wrapped(basic(signature=tlv(3, b"\0" * (60_001 + MAX_OCSP - len(plain)))))))


USAGE = seeds.extension("551d0f", tlv(3, b"\7\x80"), critical=True)
PURPOSE = seeds.extension("551d25", tlv(0x30, tlv(6, bytes.fromhex("2b06010505070309"))))


def certificate(*extensions, spki=seeds.SPKI):
    tbs = tlv(
        0x30,
        tlv(0xA0, b"\2\1\2"),
        tlv(2, b"\7"),
        seeds.ECDSA_SHA384,
        seeds.name("CA"),
        tlv(0x30, tlv(0x17, b"260101000000Z"), tlv(0x17, b"330101000000Z")),
        seeds.name("responder"),
        spki,
        tlv(0xA3, tlv(0x30, *extensions)),
    )
    return tlv(0x30, tbs, seeds.ECDSA_SHA384, SIGNATURE)


@pytest.mark.parametrize(
    ("extensions", "signs", "purposes"),
    [
        ((USAGE, PURPOSE), True, 1),
        ((PURPOSE,), True, 1),
        ((USAGE,), True, 0),
        ((seeds.extension("551d0f", tlv(3, b"\1\x06")), PURPOSE), False, 1),
        ((seeds.extension("551d0f", tlv(3, b"\0")), PURPOSE), False, 1),
        ((seeds.extension("551d0f", tlv(3, b"")), PURPOSE), False, 1),
    ],
)
def test_what_a_responders_certificate_is_for_is_read(extensions, signs, purposes):
    found = parse_responder(certificate(*extensions))
    assert (found.digital_signature, len(found.purposes)) == (signs, purposes)


@pytest.mark.parametrize(
    "data",
    [
        certificate(USAGE, PURPOSE, PURPOSE),
        certificate(seeds.extension("551d25", tlv(0x30, NULL))),
        certificate(seeds.extension("551d25", tlv(0x31))),
        certificate(seeds.extension("551d0f", tlv(4, b"\7\x80"))),
        certificate(seeds.extension("2a0304", NULL, critical=True)),
        certificate(PURPOSE, spki=tlv(0x30, NULL, tlv(3, b"\0k"))),
        certificate(PURPOSE, spki=tlv(0x30, tlv(0x30), tlv(4, b"\0k"))),
        certificate(PURPOSE, spki=tlv(0x30, tlv(0x30), tlv(3, b"\1k"))),
        certificate(PURPOSE, spki=tlv(0x30, tlv(0x30), tlv(3, b"\0k"), NULL)),
    ],
)
def test_a_responders_certificate_of_another_form_is_malformed(data):
    with pytest.raises(MalformedEvidence) as caught:
        parse_responder(data)
    assert caught.value.check is Check.GPU_OCSP_FORMAT


def points(*parts):
    return certificate(seeds.extension("551d1f", tlv(0x30, *parts)))


def full(*names):
    return tlv(0x30, tlv(0xA0, tlv(0xA0, *names)))


def url(text):
    return tlv(0x86, text)


@pytest.mark.parametrize(
    ("data", "urls"),
    [
        (certificate(), ()),
        (points(), ()),
        (points(full(url(b"http://a/1"))), ("http://a/1",)),
        (certificate(USAGE, PURPOSE, seeds.extension("551d1f", tlv(0x30, full(url(b"a:1"))), critical=True)), ("a:1",)),
        (certificate(USAGE, seeds.extension("551d20", tlv(0x30, full(url(b"a:1"))))), ()),
        (points(full(url(b"a:1"), url(b"b:2")), full(url(b"c:3"))), ("a:1", "b:2", "c:3")),
        (points(full(tlv(0xA4, seeds.name("directory")), url(b"http://a/1"))), ("http://a/1",)),
        (points(tlv(0x30, tlv(0xA0, tlv(0xA1, tlv(6, b"\x2a"))))), ()),
        (points(tlv(0x30, tlv(0x81, b"\0\1"))), ()),
        (points(tlv(0x30, tlv(0xA2, tlv(0xA4, seeds.name("another issuer"))))), ()),
    ],
)
def test_addresses_of_lists_are_read(data, urls):
    assert status_points(data, "certificate").crl_urls == urls


@pytest.mark.parametrize(
    "data",
    [
        points(full(url(b"http://a/\x80"))),
        points(full(url(b"http://a/\n"))),
        points(full(url(b"http://a/" + b"x" * 504))),
        points(*[full(url(b"http://a/1"))] * 9),
        certificate(seeds.extension("551d1f", tlv(0x31))),
    ],
)
def test_addresses_of_another_form_are_malformed(data):
    with pytest.raises(MalformedEvidence):
        status_points(data, "certificate")
    assert status_points(points(full(url(b"http://a/" + b"x" * 503))), "certificate").crl_urls
