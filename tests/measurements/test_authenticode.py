"""The hash of a PE image: that of a signer, bytes that count and bytes that do not; QEMU's patch of a kernel."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokimos.errors import Error, MalformedEvidence, UsageError
from dokimos.measurements.authenticode import MAX_SECTIONS, authenticode, authenticode_sha384, parse_pe
from dokimos.measurements.qemu_kernel import patched_kernel
from dokimos.measurements.synthetic_pe import synthetic_kernel, synthetic_pe, synthetic_uki

_GIB = 1 << 30
_IMAGE = synthetic_pe(((b".text", b"code" * 99), (b".data", b"data"), (b".bss", b"")))
_SIGNED = synthetic_pe(((b".text", b"code" * 99), (b".data", b"data")), tail=b"tail", certificates=b"certificates" * 9)
# DigestInfo of SpcIndirectDataContent: SHA-256, 32 bytes follow.
_DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


def test_the_hash_of_a_signed_kernel_is_the_one_that_its_signer_signed(debian):
    kernel = debian("kernel")
    at = kernel.index(_DIGEST_INFO) + len(_DIGEST_INFO)
    image = parse_pe(kernel)
    assert image.certificates
    assert authenticode(image, "sha256") == kernel[at : at + 32]


def _by_hand(image: bytes, plus: bool) -> bytes:
    """The rule's own words for an image whose sections follow its headers in order, without a gap."""
    optional = int.from_bytes(image[0x3C:0x40], "little") + 24
    security = optional + (112 if plus else 96) + 32
    certificates = int.from_bytes(image[security + 4 : security + 8], "little")
    parts = (image[: optional + 64], image[optional + 68 : security], image[security + 8 : len(image) - certificates])
    return hashlib.sha384(b"".join(parts)).digest()


@settings(max_examples=50, deadline=None)
@given(
    sections=st.lists(st.binary(max_size=1200), max_size=6),
    plus=st.booleans(),
    tail=st.binary(max_size=20),
    certificates=st.binary(max_size=64),
)
def test_images_without_gaps_hash_as_their_bytes_without_checksum_and_certificates(sections, plus, tail, certificates):
    named = [(f".s{number}".encode(), content) for number, content in enumerate(sections)]
    image = synthetic_pe(named, plus=plus, tail=tail, certificates=certificates)
    assert authenticode_sha384(image) == _by_hand(image, plus)


def test_checksum_and_certificates_do_not_count_and_every_other_byte_does():
    base = authenticode_sha384(_SIGNED)
    optional = int.from_bytes(_SIGNED[0x3C:0x40], "little") + 24
    certificates = len(_SIGNED) - len(b"certificates" * 9)
    silent = {*range(optional + 64, optional + 68), *range(optional + 144, optional + 152)}
    silent |= set(range(certificates, len(_SIGNED)))
    for at in range(len(_SIGNED)):
        changed = bytearray(_SIGNED)
        changed[at] ^= 1
        try:
            same = authenticode_sha384(bytes(changed)) == base
        except MalformedEvidence:
            continue
        if not optional + 148 <= at < optional + 152:  # not hashed, but it says where the hashed bytes end
            assert same == (at in silent), hex(at)


def test_a_certificate_table_put_behind_an_image_does_not_move_its_hash():
    plain = synthetic_pe(((b".text", b"x"),), tail=b"tail")
    signed = synthetic_pe(((b".text", b"x"),), tail=b"tail", certificates=b"c" * 16)
    assert authenticode_sha384(plain) == authenticode_sha384(signed)


def test_an_image_without_a_security_directory_is_hashed_to_its_end():
    for plus in (True, False):
        image = synthetic_pe(((b".text", b"x"),), plus=plus, directories=4, tail=b"tail")
        optional = int.from_bytes(image[0x3C:0x40], "little") + 24
        assert authenticode_sha384(image) == hashlib.sha384(image[: optional + 64] + image[optional + 68 :]).digest()


def test_sections_count_in_the_order_of_the_file_not_of_the_table():
    image = bytearray(_IMAGE)
    table = int.from_bytes(image[0x3C:0x40], "little") + 24 + 240
    first, second = image[table : table + 40], image[table + 40 : table + 80]
    image[table : table + 80] = second + first
    found = parse_pe(bytes(image))
    assert [section.name for section in found.sections] == [b".data", b".text", b".bss"]
    headers, bodies = bytes(image[: found.headers]), bytes(image[found.headers :])
    optional = int.from_bytes(image[0x3C:0x40], "little") + 24
    hashed = headers[: optional + 64] + headers[optional + 68 : optional + 144] + headers[optional + 152 :] + bodies
    assert authenticode(found) == hashlib.sha384(hashed).digest()


def test_a_section_is_given_as_it_stands_in_memory():
    kernel = synthetic_kernel()
    image = parse_pe(synthetic_uki(kernel=kernel, cmdline="quiet", initrd=b"i" * 700))
    assert image.section(b".linux") == kernel
    assert image.section(b".cmdline") == b"quiet"
    assert image.section(b".initrd") == b"i" * 700
    assert image.section(b".none") is None
    twice = parse_pe(synthetic_pe(((b".a", b"1"), (b".a", b"2"))))
    with pytest.raises(MalformedEvidence, match="twice"):
        twice.section(b".a")


def _with(at: int, value: int, size: int = 4, image: bytes = _IMAGE) -> bytes:
    changed = bytearray(image)
    changed[at : at + size] = value.to_bytes(size, "little")
    return bytes(changed)


_PE = 0x40
_OPTIONAL = _PE + 24
_TABLE = _OPTIONAL + 240


@pytest.mark.parametrize(
    "image",
    [
        b"",
        b"MZ",
        b"ELF" + _IMAGE[3:],
        _with(0x3C, 0xFFFFFFFF),
        _with(0x3C, len(_IMAGE) - 4),
        _with(_PE, 0),
        _with(_PE + 6, MAX_SECTIONS + 1, 2),
        _with(_PE + 6, 90, 2),
        _with(_PE + 20, 0, 2),
        _with(_PE + 20, 0xFFFF, 2),
        _with(_OPTIONAL, 0x107, 2),
        _with(_OPTIONAL + 60, 0),
        _with(_OPTIONAL + 60, 0xFFFFFFFF),
        _with(_OPTIONAL + 108, 0xFFFFFFFF),
        _with(_TABLE + 16, 0xFFFFFFFF),
        _with(_TABLE + 20, 0),
        _with(_TABLE + 20, 0xFFFFFF00),
        _with(_TABLE + 56, 0x10000),
        _with(_OPTIONAL + 112 + 36, 0x10000, image=_SIGNED),
    ],
)
def test_bytes_that_are_no_image_are_malformed(image):
    with pytest.raises(MalformedEvidence):
        authenticode_sha384(image)


def test_sections_that_share_their_bytes_cannot_make_hashing_long():
    image = bytearray(synthetic_pe([(b".s", b"x" * 0x400)] * 90))
    table = int.from_bytes(image[0x3C:0x40], "little") + 24 + 240
    headers = parse_pe(bytes(image)).headers
    for number in range(90):
        struct.pack_into("<II", image, table + 40 * number + 16, len(image) - headers, headers)
    with pytest.raises(MalformedEvidence, match="larger than the file"):
        authenticode_sha384(bytes(image))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(_IMAGE) - 1), st.binary(min_size=1, max_size=8), st.integers(0, len(_IMAGE)))
def test_any_bytes_give_a_hash_or_a_clear_error(position, splice, size):
    broken = bytearray(_IMAGE)
    broken[position : position + len(splice)] = splice
    for image in (bytes(broken), bytes(broken[:size])):
        try:
            assert len(authenticode_sha384(image)) == 48
        except Error:
            continue


def _fields(kernel: bytes, image: bytes) -> dict[int, int]:
    assert len(kernel) == len(image)
    return {at: image[at] for at in range(len(kernel)) if kernel[at] != image[at]}


def test_qemu_writes_its_part_of_the_boot_protocol_and_nothing_else():
    kernel = synthetic_kernel()
    image = patched_kernel(kernel, initrd_size=0x1234, memory=2 * _GIB)
    assert set(_fields(kernel, image)) <= {0x210, 0x211, *range(0x218, 0x220), 0x224, 0x225, *range(0x228, 0x22C)}
    assert image[0x210] == 0xB0
    assert image[0x211] == 0x81
    assert struct.unpack_from("<H", image, 0x224) == (0xFE00,)
    assert struct.unpack_from("<I", image, 0x228) == (0x20000,)
    assert struct.unpack_from("<II", image, 0x218) == ((0x80000000 - 0x28000 - 1 - 0x1234) & ~4095, 0x1234)
    alone = patched_kernel(kernel, initrd_size=None, memory=2 * _GIB)
    assert set(_fields(kernel, alone)) == {0x210, 0x211, 0x225, 0x22A}


def test_the_kernels_hash_is_one_at_two_gibibytes_and_from_2816_mebibytes_on():
    kernel = synthetic_kernel()

    def hashed(memory: int) -> bytes:
        return authenticode_sha384(patched_kernel(kernel, initrd_size=100_000, memory=memory))

    large = {hashed(memory << 20) for memory in (2048, 2816, 3072, 4096, 65536)}
    assert len(large) == 1
    others = {hashed(memory << 20) for memory in (1024, 1536, 2047, 2560, 2815)}
    assert len(others) == 5
    assert not others & large


def test_where_the_ram_disk_may_lie_is_what_the_kernel_says():
    kernel = bytearray(synthetic_kernel())
    kernel[0x236:0x238] = (0x40).to_bytes(2, "little")  # 5-level paging, which is not the bit for 4 GiB
    kernel[0x22C:0x230] = (0x37FFFFFF).to_bytes(4, "little")
    low = patched_kernel(bytes(kernel), initrd_size=0x1000, memory=2 * _GIB)
    assert struct.unpack_from("<I", low, 0x218) == ((0x37FFFFFF - 0x1000) & ~4095,)
    kernel[0x236:0x238] = (0x02).to_bytes(2, "little")  # it may lie anywhere
    high = patched_kernel(bytes(kernel), initrd_size=0x1000, memory=2 * _GIB)
    assert struct.unpack_from("<I", high, 0x218)[0] > 0x7FF00000


@pytest.mark.parametrize(
    ("append", "mode"),
    [("vga=normal", 0xFFFF), ("x vga=ext y", 0xFFFE), ("vga=ask", 0xFFFD), ("vga=0x317 q", 0x317), ("vga=791", 791)],
)
def test_a_video_mode_of_the_command_line_is_written_into_the_kernel(append, mode):
    image = patched_kernel(synthetic_kernel(), initrd_size=None, memory=2 * _GIB, append=append)
    assert struct.unpack_from("<H", image, 0x1FA) == (mode,)


@pytest.mark.parametrize(
    ("kernel", "initrd", "memory", "append", "error"),
    [
        (b"", 1, 2 * _GIB, "", MalformedEvidence),
        (bytes(0x2000), 1, 2 * _GIB, "", MalformedEvidence),
        (synthetic_kernel(protocol=0x201), 1, 2 * _GIB, "", MalformedEvidence),
        (_with(0x1F1, 255, 1, synthetic_kernel()), 1, 2 * _GIB, "", MalformedEvidence),
        (synthetic_kernel(), 3 * _GIB, 2 * _GIB, "", UsageError),
        (synthetic_kernel(), 1, 0x20000, "", UsageError),
        (synthetic_kernel(), 1, 2 * _GIB, "vga=zebra", UsageError),
        (synthetic_kernel(), 1, 2 * _GIB, "vga=09", UsageError),
    ],
)
def test_what_qemu_would_not_start_is_refused(kernel, initrd, memory, append, error):
    with pytest.raises(error):
        patched_kernel(kernel, initrd_size=initrd, memory=memory, append=append)
