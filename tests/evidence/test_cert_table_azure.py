"""The certificate table of extended reports, and the HCL report of Azure."""

from __future__ import annotations

import contextlib
import hashlib
import struct
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dokimos.errors import Check, Error, MalformedEvidence, UnsupportedEvidence
from dokimos.evidence import azure_hcl, cert_table
from dokimos.evidence.snp import REPORT_SIZE, parse_report


@given(st.dictionaries(st.uuids().filter(lambda uuid: uuid.int), st.binary(max_size=50), max_size=8))
def test_cert_table_round_trips(contents):
    table = cert_table.encode_cert_table(contents)
    assert cert_table.parse_cert_table(table) == contents
    assert cert_table.parse_cert_table(table + bytes(100)) == contents


@given(st.binary(max_size=300))
def test_any_bytes_as_cert_table_give_a_value_or_a_clear_error(data):
    with contextlib.suppress(MalformedEvidence):
        cert_table.parse_cert_table(data)


def _entry(uuid: UUID, offset: int, length: int) -> bytes:
    return uuid.bytes + struct.pack("<II", offset, length)


def test_cert_table_entry_whose_offset_and_length_wrap_in_32_bits_is_refused():
    table = _entry(cert_table.VCEK, 0xFFFFFFF0, 0x40) + bytes(24) + b"content" * 10
    with pytest.raises(MalformedEvidence, match="outside") as caught:
        cert_table.parse_cert_table(table)
    assert caught.value.check is Check.SNP_CERT_TABLE


def test_cert_table_entry_that_points_into_the_header_is_refused():
    with pytest.raises(MalformedEvidence, match="outside"):
        cert_table.parse_cert_table(_entry(cert_table.VCEK, 24, 24) + bytes(24))


def test_cert_table_with_one_guid_twice_is_refused():
    table = _entry(cert_table.VCEK, 72, 1) + _entry(cert_table.VCEK, 73, 1) + bytes(24) + b"ab"
    with pytest.raises(MalformedEvidence, match="twice"):
        cert_table.parse_cert_table(table)


def test_cert_table_without_an_end_marker_or_beyond_all_bounds_is_refused():
    table = cert_table.encode_cert_table({cert_table.VCEK: b"x"})
    with pytest.raises(MalformedEvidence, match="no end marker"):
        cert_table.parse_cert_table(table[:30])
    with pytest.raises(MalformedEvidence, match="larger"):
        cert_table.parse_cert_table(bytes(cert_table.MAX_SIZE + 1))
    many = b"".join(_entry(UUID(int=n), 10_000, 0) for n in range(1, 100))
    with pytest.raises(MalformedEvidence, match="more than"):
        cert_table.parse_cert_table(many + bytes(20_000))


def test_cert_table_guids_are_stored_as_in_rfc_4122():
    table = cert_table.encode_cert_table({cert_table.VCEK: b"x"})
    assert table.startswith(bytes.fromhex("63da758de6644564adc5f4b93be8accd"))


def _sets_with_hcl(vectors, snp_set):
    found = vectors(f"snp/{snp_set}")
    return found if "hcl_report.bin" in found.names else None


def test_every_real_hcl_report_is_bound_to_its_runtime_data(vectors, snp_set):
    found = _sets_with_hcl(vectors, snp_set)
    if found is None:
        assert "azure" not in vectors(f"snp/{snp_set}").manifest["expected"]
        return
    expected = found.manifest["expected"]["azure"]
    hcl = azure_hcl.parse_hcl_report(found.bytes("hcl_report.bin"))
    assert hcl.version == expected["hcl_version"]
    assert hcl.hash_name == expected["runtime_data_hash"]
    assert len(hcl.runtime_data) == expected["runtime_data_length"]
    assert hcl.report == found.bytes("report.bin")
    assert expected["report_data_binding"] == "pass"
    assert parse_report(hcl.report).report_data == hcl.expected_report_data()


def _hcl(runtime: bytes = b"{}", *, version=1, request=2, kind=2, hashing=1, length: int | None = None) -> bytes:
    size = 0x4D4 + len(runtime)
    header = b"HCLA" + struct.pack("<III", version, size, request) + bytes(16)
    runtime_header = struct.pack(
        "<IIIII", 20 + len(runtime), 1, kind, hashing, len(runtime) if length is None else length
    )
    return header + bytes(REPORT_SIZE) + runtime_header + runtime


def test_hcl_binding_uses_the_hash_that_the_report_names():
    for number, name in ((1, "sha256"), (2, "sha384"), (3, "sha512")):
        hcl = azure_hcl.parse_hcl_report(_hcl(hashing=number))
        assert hcl.expected_report_data() == hashlib.new(name, b"{}").digest().ljust(64, b"\0")


@pytest.mark.parametrize("bad", [{"version": 3}, {"request": 1}, {"kind": 3}, {"hashing": 4}])
def test_hcl_of_another_kind_is_unsupported(bad):
    with pytest.raises(UnsupportedEvidence):
        azure_hcl.parse_hcl_report(_hcl(**bad))


def test_hcl_whose_lengths_lie_is_malformed():
    with pytest.raises(MalformedEvidence):
        azure_hcl.parse_hcl_report(_hcl(length=1000))
    with pytest.raises(MalformedEvidence):
        azure_hcl.parse_hcl_report(bytes(azure_hcl.MAX_SIZE + 1))
    good = _hcl()
    for length in range(len(good)):
        with pytest.raises(MalformedEvidence):
            azure_hcl.parse_hcl_report(good[:length])


@given(st.binary(max_size=100), st.integers(0, 100))
def test_any_bytes_as_hcl_report_give_a_value_or_a_clear_error(data, position):
    good = bytearray(_hcl())
    good[position : position + len(data)] = data
    with contextlib.suppress(Error):
        azure_hcl.parse_hcl_report(bytes(good))
