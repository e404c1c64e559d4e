"""The TD HOB: digests of real event logs, the memory that it describes, and finding a machine's memory size."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokimos.errors import UnsupportedEvidence, UsageError
from dokimos.evidence.ccel import EventKind, kind, parse_ccel
from dokimos.measurements.ovmf import FOUR_GIB, PAGE
from dokimos.measurements.synthetic_ovmf import synthetic_tdvf, tdvf_sections
from dokimos.measurements.td_hob import USUAL_SIZES, find_memory, low_memory, td_hob, td_hob_digest
from dokimos.measurements.tdvf import TdvfType, parse_tdvf

_GIB = 1 << 30
_NEW = parse_tdvf(synthetic_tdvf(4 * PAGE))
_OLD_SECTIONS = (
    *tdvf_sections(4 * PAGE)[:2],
    (0, 0, 0x810000, 0x10000, TdvfType.TEMP_MEM, 0),
    (0, 0, 0x80B000, 0x2000, TdvfType.TEMP_MEM, 0),
    (0, 0, 0x809000, 0x2000, TdvfType.TD_HOB, 0),
    (0, 0, 0x800000, 0x6000, TdvfType.TEMP_MEM, 0),
)
_HOLES = tuple((0, 0, 0x900000 + 2 * n * PAGE, PAGE, TdvfType.TEMP_MEM, 0) for n in range(50))
_OLD = parse_tdvf(synthetic_tdvf(4 * PAGE, sections=_OLD_SECTIONS))

REAL = [
    (_OLD, 2, "0b8772e5b0b41b83e6044a68397e02f49fb47066b4fbe4917ea2c45c64f323fdacbb37948f821ebaf8bc9c938ba8a749"),
    (_OLD, 64, "8ae1e425351df7992c444586eff99d35af3b779aa2b0e981cb4b73bc5b279f2ade19b6a62a203fc3c3bbdaae80af596d"),
    (_NEW, 2, "0e35f1b315ba6c912cf791e5c79dd9d3a2b8704516aa27d4e5aa78fb09ede04aef2bbd02ac7a8734c48562b9c26ba35d"),
]


@pytest.mark.parametrize(("tdvf", "gib", "digest"), REAL)
def test_the_digests_of_real_logs_come_out(tdvf, gib, digest):
    assert td_hob_digest(tdvf, gib * _GIB).hex() == digest
    assert find_memory(tdvf, bytes.fromhex(digest)) == gib * _GIB


@pytest.mark.parametrize(
    ("set_name", "file", "tdvf"),
    [("ccel_direct_boot_live2", "ccel.bin", _NEW), ("ccel_parse_only", "CCEL_data_ovmf", _OLD)],
)
def test_logs_of_real_tds_have_the_computed_td_hob(vectors, set_name, file, tdvf):
    log = parse_ccel(vectors(f"tdx/{set_name}").bytes(file))
    (event,) = [event for event in log.events if kind(event) is EventKind.TD_HOB]
    assert event.digest == td_hob_digest(tdvf, 2 * _GIB)


@pytest.mark.parametrize(("name", "tdvf"), [("trixie", _NEW), ("bookworm", _OLD), ("sid inteltdx", _OLD)])
def test_real_firmware_has_the_section_table_of_the_stand_in(debian, name, tdvf):
    assert td_hob(parse_tdvf(debian(name)), 4 * _GIB) == td_hob(tdvf, 4 * _GIB)


def _entries(hob: bytes) -> list[tuple[int, int, int]]:
    assert hob[:8] == struct.pack("<HHI", 1, 56, 0)
    assert (len(hob) - 56) % 48 == 0
    found = []
    for at in range(56, len(hob), 48):
        kind_, size, reserved, resource, attributes, start, length = struct.unpack_from("<HHI16xIIQQ", hob, at)
        assert (kind_, size, reserved, attributes) == (3, 48, 0, 7)
        found.append((start, length, resource))
    return found


@settings(max_examples=100, deadline=None)
@given(memory=st.integers(0x900000 // PAGE, 1 << 28), tdvf=st.sampled_from([_OLD, _NEW]))
def test_the_list_tells_of_all_memory_once_and_of_accepted_memory_where_sections_are(memory, tdvf):
    size = memory * PAGE
    hob = td_hob(tdvf, size)
    entries = _entries(hob)
    assert entries == sorted(entries)
    assert sum(length for _, length, _ in entries) == size
    ends = [start + length for start, length, _ in entries]
    assert all(end <= start for end, (start, *_) in zip(ends, entries[1:], strict=False))
    high = [entry for entry in entries if entry[0] >= FOUR_GIB]
    assert high == ([(FOUR_GIB, size - low_memory(size), 7)] if size > low_memory(size) else [])
    empty = {(s.gpa, s.size) for s in tdvf.sections if s.kind in (TdvfType.TD_HOB, TdvfType.TEMP_MEM)}
    assert {(start, length) for start, length, resource in entries if resource == 0} == empty
    assert int.from_bytes(hob[48:56], "little") == 0x809000 + len(hob) + 8


def test_memory_is_split_at_2816_mebibytes_and_not_below():
    assert low_memory((2816 << 20) - PAGE) == (2816 << 20) - PAGE
    assert low_memory(2816 << 20) == 2 * _GIB


def test_each_usual_size_has_its_own_digest_and_an_unusual_one_is_not_found():
    assert len({td_hob_digest(_NEW, size) for size in USUAL_SIZES}) == len(USUAL_SIZES)
    assert find_memory(_NEW, td_hob_digest(_NEW, 5 * _GIB + PAGE)) is None
    assert find_memory(_NEW, hashlib.sha384(b"").digest()) is None


@pytest.mark.parametrize("memory", [0, -PAGE, PAGE - 1, _GIB + 1, 1 << 60])
def test_memory_that_no_machine_has_is_a_usage_error(memory):
    with pytest.raises(UsageError):
        td_hob(_NEW, memory)


@pytest.mark.parametrize(
    "sections",
    [
        _OLD_SECTIONS[:4] + _OLD_SECTIONS[5:],
        (*_OLD_SECTIONS, (0, 0, 0x900000, 0x2000, TdvfType.TD_HOB, 0)),
        (*_OLD_SECTIONS, (0, 0, 0xC0000000, 0x2000, TdvfType.TEMP_MEM, 0)),
        (*_OLD_SECTIONS[:4], (0, 0, 0x809000, PAGE, TdvfType.TD_HOB, 0), *_HOLES),
    ],
    ids=["no place", "two places", "in a hole", "too many for its section"],
)
def test_firmware_that_a_host_could_not_give_a_list_is_refused(sections):
    tdvf = parse_tdvf(synthetic_tdvf(4 * PAGE, sections=sections, marks=()))
    with pytest.raises(UnsupportedEvidence):
        td_hob(tdvf, 2 * _GIB)


def test_memory_that_ends_below_the_firmwares_sections_is_refused():
    with pytest.raises(UnsupportedEvidence):
        td_hob(_NEW, 8 << 20)
