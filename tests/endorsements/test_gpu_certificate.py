"""Certificates of NVIDIA's hierarchies: the real ones as the peer reads them, and every form that is refused."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID
from hypothesis import given
from hypothesis import strategies as st

from dokimos.endorsements import der, nvidia_anchors
from dokimos.endorsements.gpu_certificate import CHAIN_MAX, parse_gpu_certificate, split_chain
from dokimos.endorsements.p384 import verify_der
from dokimos.errors import MalformedEvidence
from dokimos.evidence.gpu_arch import Arch
from tests.generate import gpu
from tests.generate.gpu import COMPOSITE, FWID, TCB_INFO, composite, fwid_element, tcb_info, tlv

CHAINS = (
    "hopper-545.00-full-positive/chain.pem",
    "hopper-550.90.07-vs-wrong-rims/chain.pem",
    "hopper-535.86.09/chain.pem",
    "hopper-580.95.05-trailing-byte/chain.pem",
    "blackwell-575.32/chain.pem",
    "nvswitch-ls10-full-positive/chain.pem",
    "trustee-cert-chain-cases/hopper_cert_chain_case1.txt",
)
RIMS = (
    "hopper-545.00-full-positive/driver_rim.xml",
    "hopper-545.00-full-positive/vbios_rim.xml",
    "nvswitch-ls10-full-positive/bios_rim.xml",
    "rim-negative/NV_GPU_DRIVER_GH100_550.144.03.xml",
)


def real(vectors, path):
    folder, name = path.split("/")
    return vectors(f"nvidia/{folder}").bytes(name)


def chains(vectors):
    """Every real chain in DER: of devices, and of the signers of RIMs."""
    for path in CHAINS:
        yield split_chain(real(vectors, path))
    for name in ("gpu_evidence.json", "switch_evidence.json"):
        for device in json.loads(real(vectors, f"ppcie-hgx-8gpu-4switch/{name}")):
            yield split_chain(base64.b64decode(device["certificate"]))
    for path in RIMS:
        found = re.findall(rb"X509Certificate>([^<]+)<", real(vectors, path))
        yield tuple(base64.b64decode(text) for text in found)


def test_every_real_certificate_is_read_as_the_peer_reads_it(vectors):
    seen = set()
    for chain in chains(vectors):
        for data in chain:
            mine, peer = parse_gpu_certificate(data, "certificate"), x509.load_der_x509_certificate(data)
            assert mine.raw == data
            assert mine.sha256 == hashlib.sha256(data).digest()
            assert (mine.tbs, mine.signature) == (peer.tbs_certificate_bytes, peer.signature)
            assert mine.serial == peer.serial_number
            assert dict(mine.subject) == {part.oid.dotted_string: part.value for part in peer.subject}
            assert dict(mine.issuer) == {part.oid.dotted_string: part.value for part in peer.issuer}
            assert (mine.not_before, mine.not_after) == (peer.not_valid_before_utc, peer.not_valid_after_utc)
            assert mine.spki == peer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            assert mine.spki.endswith(mine.public_point)
            usage = peer.extensions.get_extension_for_class(x509.KeyUsage).value
            assert mine.digital_signature == usage.digital_signature
            assert (mine.key_cert_sign, mine.crl_sign) == (usage.key_cert_sign, usage.crl_sign)
            with contextlib.suppress(x509.ExtensionNotFound):
                constraints = peer.extensions.get_extension_for_class(x509.BasicConstraints).value
                assert (mine.is_ca, mine.path_length) == (constraints.ca, constraints.path_length)
            names = {extension.oid.dotted_string for extension in peer.extensions}
            assert (mine.fwid is not None) == bool(names & {COMPOSITE, TCB_INFO})
            assert (mine.tcb_info is not None) == (TCB_INFO in names)
            assert (mine.extended_key_usage != ()) == (ExtensionOID.EXTENDED_KEY_USAGE.dotted_string in names)
            seen.add(mine.sha256)
    assert len(seen) >= 40


def test_every_real_certificate_is_signed_by_the_next_one(vectors):
    for chain in chains(vectors):
        parsed = [parse_gpu_certificate(data, "certificate") for data in chain]
        for below, above in zip(parsed, [*parsed[1:], parsed[-1]], strict=True):
            assert below.issuer == above.subject
            assert verify_der(above.public_point, below.signature, below.tbs)


def test_serial_numbers_of_twenty_bytes_and_the_last_second_of_all_are_read(vectors):
    leaf, brom, *_ = (parse_gpu_certificate(data, "x") for data in split_chain(real(vectors, CHAINS[1])))
    assert leaf.serial.bit_length() > 152
    assert f"{leaf.serial:040X}" == dict(leaf.subject)["2.5.4.5"]
    assert f"{brom.serial:018X}" == dict(brom.subject)["2.5.4.5"]
    assert leaf.not_after == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def test_the_pinned_roots_end_the_real_chains(vectors):
    device, rim = split_chain(real(vectors, CHAINS[0]))[-1], list(chains(vectors))[-1][-1]
    for data, sha256, spki, name in (
        (
            device,
            nvidia_anchors.DEVICE_ROOT_SHA256,
            nvidia_anchors.DEVICE_ROOT_SPKI_SHA256,
            nvidia_anchors.DEVICE_ROOT_CN,
        ),
        (rim, nvidia_anchors.RIM_ROOT_SHA256, nvidia_anchors.RIM_ROOT_SPKI_SHA256, nvidia_anchors.RIM_ROOT_CN),
    ):
        root = parse_gpu_certificate(data, "root")
        assert (root.sha256, hashlib.sha256(root.spki).digest(), root.subject_cn) == (sha256, spki, name)


def test_the_intermediates_of_the_attestation_service_are_those_that_are_known(vectors):
    found = [*x509.load_pem_x509_certificates(real(vectors, "nras-jwks-x5c/openpcc_nras_intermediates_002_003.pem"))]
    document = json.loads(real(vectors, "nras-jwks-x5c/nras_gpu_x5c_chain.json"))
    text = json.dumps(document)
    for candidate in re.findall(r'"(MII[A-Za-z0-9+/=]+)"', text):
        found.append(x509.load_der_x509_certificate(base64.b64decode(candidate)))
    named = {}
    for certificate in found:
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        (common,) = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        named[hashlib.sha256(spki).digest()] = (str(common.value), certificate.not_valid_after_utc)
    for spki_sha256, (name, end) in nvidia_anchors.NRAS_INTERMEDIATES.items():
        real_name, real_end = named[spki_sha256]
        # Pinned to the day: never later than the certificate itself says.
        assert (name, end.date()) == (real_name, real_end.date())
        assert end <= real_end


def made(place=0, arch=Arch.HOPPER, **changes):
    return gpu.changed_chain(arch, {place: changes})[place]


def refuse(data, text):
    with pytest.raises(MalformedEvidence, match=f"certificate of the device: .*{text}"):
        parse_gpu_certificate(data, "certificate of the device")


def test_both_encodings_of_the_firmware_identifier_are_read():
    hopper = parse_gpu_certificate(made(), "x")
    assert (hopper.fwid, hopper.tcb_info) == (FWID, None)
    blackwell = parse_gpu_certificate(made(arch=Arch.BLACKWELL), "x")
    assert blackwell.fwid == FWID
    assert blackwell.tcb_info.fwids == (FWID, bytes(48))
    assert parse_gpu_certificate(made(1), "x").fwid is None


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (0x80000001, {"not_configured"}),
        (0x40000000, {"not_secure"}),
        (0x20000000, {"recovery"}),
        (0x10000000, {"debug"}),
        (0xF0000001, {"not_configured", "not_secure", "recovery", "debug"}),
        (0x0FFFFFFF, set()),
        (0, set()),
    ],
)
def test_operational_flags_have_their_names(flags, names):
    info = parse_gpu_certificate(made(extensions={TCB_INFO: tcb_info(FWID, flags)}), "x").tcb_info
    assert (info.flags, info.flags_raw) == (names, flags)


def test_a_tcb_info_may_lack_everything():
    found = parse_gpu_certificate(made(extensions={TCB_INFO: tlv(0x30)}), "x")
    assert found.fwid is None
    info = found.tcb_info
    assert (info.vendor, info.model, info.version, info.svn, info.layer, info.index) == (None,) * 6
    assert (info.fwids, info.flags, info.flags_raw) == ((), frozenset(), 0)
    short = parse_gpu_certificate(made(extensions={TCB_INFO: tlv(0x30, b"\x87\x02\x04\x50")}), "x").tcb_info
    assert (short.flags, short.flags_raw) == ({"not_secure", "debug"}, 0x50000000)


ONE = fwid_element(FWID)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        tlv(4, FWID),
        tlv(0x30),
        tlv(0x30, b"\x02\x01\x01", ONE),
        tlv(0x30, b"\x02\x01\x02", tlv(0x30), ONE),
        tlv(0x30, b"\x02\x01\x01", tlv(0x30), tlv(0x30, tlv(4, FWID))),
        tlv(0x30, b"\x02\x01\x01", tlv(0x30), tlv(0x30, tlv(6, b"\x2a"), tlv(4, FWID))),
        tlv(0x30, b"\x02\x01\x01", tlv(0x30), fwid_element(FWID[1:])),
        tlv(0x30, b"\x02\x01\x01", tlv(0x30), tlv(4, FWID)),
        tlv(0x30, b"\x02\x01\x01", tlv(0x30), ONE, ONE),
        composite(FWID) + b"\0",
    ],
)
def test_a_composite_device_id_of_another_form_is_refused(value):
    refuse(made(extensions={COMPOSITE: value}), "")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        tlv(0x30, tlv(0x0C, b"NVIDIA")),
        tlv(0x30, tlv(0x80, b"\xff")),
        tlv(0x30, tlv(0x81, b"a"), tlv(0x80, b"b")),
        tlv(0x30, tlv(0x80, b"a"), tlv(0x80, b"b")),
        tlv(0x30, tlv(0x8B, b"a")),
        tlv(0x30, tlv(0xAC, b"")),
        tlv(0x30, tlv(0xC0, b"a")),
        tlv(0x30, tlv(0xA0, b"")),
        tlv(0x30, tlv(0x86, ONE)),
        tlv(0x30, tlv(0xA6, FWID)),
        tlv(0x30, tlv(0xA6, tlv(0x30, tlv(6, b"\x2a"), tlv(4, FWID)))),
        tlv(0x30, tlv(0xA6, *[ONE] * 17)),
        tlv(0x30, b"\x83\x00"),
        tlv(0x30, tlv(0x87, b"")),
        tlv(0x30, tlv(0x87, b"\x08\x00")),
        tlv(0x30, tlv(0x87, b"\x01\x01")),
        tlv(0x30, tlv(0x87, bytes(6))),
        tcb_info(FWID, more=tlv(0x88, b"\0")),
        tcb_info(FWID) + b"\0",
    ],
)
def test_a_tcb_info_of_another_form_is_refused(value):
    refuse(made(extensions={TCB_INFO: value}), "")


def test_two_extensions_that_name_a_firmware_are_refused():
    both = {COMPOSITE: composite(FWID), TCB_INFO: tcb_info(FWID)}
    refuse(made(extensions=both), "two extensions say which firmware it is of")


def test_another_key_or_hash_or_an_unknown_critical_extension_is_refused():
    refuse(made(key=gpu.key(1, ec.SECP256R1)), "not an uncompressed P-384 point")
    refuse(made(key=gpu.key(1, ec.SECP521R1)), "not an uncompressed P-384 point")
    refuse(made(key=rsa.generate_private_key(65537, 1024)), "not an uncompressed P-384 point")
    refuse(made(hash=SHA256()), "not ECDSA with SHA-384")
    refuse(made(extensions={"1.2.3": b"\x05\0"}, critical=True), "unknown critical extension")
    assert parse_gpu_certificate(made(extensions={"1.2.3": b"\x05\0"}), "x").fwid is None


def test_a_key_on_another_curve_of_the_same_size_is_refused():
    right = made()
    curve = bytes.fromhex("2b81040022")
    assert right.count(curve) == 1
    refuse(right.replace(curve, bytes.fromhex("2b81040021")), "not an uncompressed P-384 point")


def with_serial(serial):
    """A certificate with this content of its serial number, put together again around it."""
    tbs, *rest = der.children(der.only(made(), der.SEQUENCE, "x").value, "x")
    version, _, *parts = der.children(tbs.value, "x")
    changed = tlv(0x30, version.raw, tlv(2, serial), *(part.raw for part in parts))
    return tlv(0x30, changed, *(part.raw for part in rest))


def test_a_serial_number_of_more_than_twenty_bytes_is_refused():
    assert parse_gpu_certificate(with_serial(b"\x7f" + bytes(19)), "x").serial == 0x7F << 152
    assert parse_gpu_certificate(with_serial(b"\0\xff" + bytes(19)), "x").serial == 0xFF << 152
    refuse(with_serial(b"\x01" + bytes(20)), "serial number")
    refuse(with_serial(b"\xff" + bytes(19)), "serial number")
    refuse(with_serial(b"\0"), "serial number")


def test_a_serial_number_that_is_not_positive_or_minimal_is_refused():
    right = made(serial=0x1234)
    assert right.count(b"\x02\x02\x12\x34") == 1
    for serial in (b"\x02\x02\xf2\x34", b"\x02\x02\x00\x34"):
        refuse(right.replace(b"\x02\x02\x12\x34", serial), "serial number|not minimal")
    assert parse_gpu_certificate(made(serial=(1 << 159) - 1), "x").serial.bit_length() == 159


@pytest.mark.parametrize(
    ("oid", "value"),
    [
        ("2.5.29.37", tlv(0x30)),
        ("2.5.29.37", tlv(0x30, b"\x05\0")),
        ("2.5.29.37", b"\x05\0"),
    ],
)
def test_an_extended_key_usage_of_another_form_is_refused(oid, value):
    refuse(made(extensions={oid: value}), "")


def test_purposes_are_named_by_their_oid():
    value = tlv(0x30, tlv(6, bytes.fromhex("2b06010505070309")))
    assert parse_gpu_certificate(made(extensions={"2.5.29.37": value}), "x").extended_key_usage == (
        "1.3.6.1.5.5.7.3.9",
    )


def test_constraints_and_usage_are_read_bit_by_bit():
    ca = parse_gpu_certificate(made(2, path_length=3), "x")
    assert (ca.is_ca, ca.path_length, ca.key_cert_sign, ca.crl_sign) == (True, 3, True, True)
    brom = parse_gpu_certificate(made(1), "x")
    assert (brom.is_ca, brom.path_length, brom.key_cert_sign, brom.crl_sign) == (True, None, True, False)
    lists = parse_gpu_certificate(made(1, usage=frozenset({"crl_sign"})), "x")
    assert (lists.key_cert_sign, lists.crl_sign, lists.digital_signature) == (False, True, False)
    leaf = parse_gpu_certificate(made(0), "x")
    assert (leaf.is_ca, leaf.digital_signature, leaf.key_cert_sign) == (False, True, False)
    no_ca = parse_gpu_certificate(made(0, ca=False), "x")
    assert (no_ca.is_ca, no_ca.path_length) == (False, None)


def test_basic_constraints_of_another_form_are_refused():
    right = made(2, path_length=3)
    form = b"\x30\x06\x01\x01\xff\x02\x01\x03"
    assert right.count(form) == 1
    for wrong in (
        b"\x30\x06\x01\x01\x00\x02\x01\x03",
        b"\x30\x06\x01\x01\xff\x02\x01\xff",
        b"\x30\x06\x02\x01\x03\x01\x01\xff",
    ):
        refuse(right.replace(form, wrong), "")


def test_a_chain_is_split_in_its_order_and_bounded():
    right = gpu.right_chain(Arch.HOPPER)
    assert split_chain(gpu.pem(right)) == right
    assert split_chain(b"text before\n" + gpu.pem(right) + b"and behind") == right
    assert split_chain(right[0]) == right[:1]
    for wrong, text in (
        (b"", "neither DER nor a PEM block"),
        (gpu.pem([*right, *right[:4]]), "9 certificates, more than 8"),
        (gpu.pem(right).ljust(CHAIN_MAX + 1), "larger than"),
        (gpu.pem(right).replace(b"MII", b"M=I", 1), "broken base64"),
        (gpu.pem(right).replace(b"CERTIFICATE", b"PUBLIC KEY"), "neither DER nor a PEM block"),
    ):
        with pytest.raises(MalformedEvidence, match=text):
            split_chain(wrong)


def test_a_real_certificate_cut_anywhere_is_malformed(vectors):
    for path in (CHAINS[1], CHAINS[4]):
        leaf = split_chain(real(vectors, path))[0]
        for size in range(len(leaf)):
            with pytest.raises(MalformedEvidence):
                parse_gpu_certificate(leaf[:size], "x")


@given(st.integers(0, 2000), st.integers(0, 0xFF), st.sampled_from(Arch))
def test_a_changed_byte_gives_a_certificate_or_malformed(at, byte, arch):
    data = bytearray(gpu.right_chain(arch)[0])
    data[at % len(data)] = byte
    with contextlib.suppress(MalformedEvidence):
        parse_gpu_certificate(bytes(data), "x")
