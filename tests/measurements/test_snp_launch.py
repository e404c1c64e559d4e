"""Launch digests: published cases, real silicon, the peer on random inputs, and every firmware that is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sevsnpmeasure import guest
from sevsnpmeasure.gctx import GCTX
from sevsnpmeasure.sev_mode import SevMode
from sevsnpmeasure.vmm_types import VMMType

from dokimos.errors import Error, MalformedEvidence, UnsupportedEvidence, UsageError
from dokimos.evidence.snp import parse_report
from dokimos.measurements import snp
from dokimos.measurements.ovmf import MAX_SIZE, PAGE, SEV_METADATA, SectionType, check_sections, parse_ovmf
from dokimos.measurements.synthetic_ovmf import SECTIONS, synthetic_ovmf

_PEER = {snp.Vmm.QEMU: VMMType.QEMU, snp.Vmm.EC2: VMMType.ec2, snp.Vmm.GCE: VMMType.gce}
_SMALL = synthetic_ovmf(3 * PAGE)


def _launch(found, options) -> snp.SnpLaunch:
    def file(name):
        assert options[name] in ("empty", None)
        return b"" if options[name] == "empty" else None

    return snp.SnpLaunch(
        ovmf=found.bytes(options["ovmf"]),
        kernel=file("kernel"),
        initrd=file("initrd"),
        append=options["append"],
        vcpus=options["vcpus"],
        vcpu_type=options["vcpu_sig"] or "EPYC",
        vmm=snp.Vmm(options.get("vmm_type", "qemu").lower()),
        guest_features=options["guest_features"],
    )


def _digest(found, options) -> bytes:
    launch = _launch(found, options)
    if options["mode"] != "SEV_SNP":
        return snp.sev_launch_digest(launch, es=options["mode"] == "SEV_ES")
    if "snp_ovmf_hash" not in options:
        return snp.launch_digest(launch)
    state = dataclasses.replace(snp.launch_state(launch), firmware_digest=bytes.fromhex(options["snp_ovmf_hash"]))
    pairs = [(launch.vcpu_type, snp.known_vcpu_types()[launch.vcpu_type])]
    rows = snp.digests(state, vcpus=[launch.vcpus], vcpu_types=pairs, guest_features=launch.guest_features)
    return rows[0].digest


def test_all_published_cases_give_their_digest_or_are_refused(vectors):
    found = vectors("snp/launch_digest")
    cases = found.manifest["expected"]["cases"]
    assert len(cases) == 24
    for case in cases:
        if case["verdict"] == "accept":
            assert _digest(found, case["options"]).hex() == case["digest"], case["id"]
        else:
            assert case["reason"] == "no-kernel-hashes-in-firmware"
            with pytest.raises(UnsupportedEvidence, match="hash table"):
                _digest(found, case["options"])


def test_published_inputs_of_a_real_guest_give_the_measurement_that_its_processor_signed(vectors):
    found = vectors("snp/dstack_milan")
    inputs = json.loads(found.bytes("sev_snp_measurement.json"))["measurement"]
    state = snp.LaunchState(
        firmware_digest=bytes.fromhex(inputs["ovmf_hash"]),
        sections=check_sections([(s["gpa"], s["size"], s["section_type"]) for s in inputs["ovmf_sections"]]),
        hash_table_gpa=inputs["sev_hashes_table_gpa"],
        reset_eip=inputs["sev_es_reset_eip"],
        hashes=snp.KernelHashes(
            hashlib.sha256(inputs["base_cmdline"].encode() + b"\0").digest(),
            bytes.fromhex(inputs["initrd_hash"]),
            bytes.fromhex(inputs["kernel_hash"]),
        ),
    )
    name = inputs["vcpu_type"]
    types = [(name, snp.known_vcpu_types()[name])]
    rows = snp.digests(state, vcpus=[inputs["vcpus"]], vcpu_types=types, guest_features=inputs["guest_features"])
    assert rows[0].digest == parse_report(found.bytes("report.bin")).measurement


def test_the_firmware_digest_is_the_peers():
    peer = GCTX()
    ovmf = parse_ovmf(_SMALL)
    peer.update_normal_pages(ovmf.gpa, ovmf.data)
    assert snp.firmware_digest(ovmf) == peer.ld()


@settings(max_examples=25, deadline=None)
@given(
    kernel=st.none() | st.binary(max_size=50),
    initrd=st.none() | st.binary(max_size=50),
    append=st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30),
    vcpus=st.integers(1, 5),
    vcpu_type=st.sampled_from(sorted(snp.known_vcpu_types())),
    vmm=st.sampled_from(snp.Vmm),
    features=st.integers(0, 2**64 - 1),
    tag=st.binary(max_size=4),
)
def test_random_launches_measure_as_the_peer_says(
    tmp_path_factory, kernel, initrd, append, vcpus, vcpu_type, vmm, features, tag
):
    if kernel is None:
        initrd = append = None
    folder = tmp_path_factory.mktemp("launch")
    ovmf = synthetic_ovmf(2 * PAGE, tag=tag)
    for name, data in (("ovmf", ovmf), ("kernel", kernel), ("initrd", initrd)):
        (folder / name).write_bytes(data or b"")
    expected = guest.calc_launch_digest(
        SevMode.SEV_SNP,
        vcpus,
        snp.known_vcpu_types()[vcpu_type],
        str(folder / "ovmf"),
        str(folder / "kernel") if kernel is not None else "",
        str(folder / "initrd") if initrd is not None else "",
        append or "",
        features,
        vmm_type=_PEER[vmm],
    )
    launch = snp.SnpLaunch(
        ovmf=ovmf,
        kernel=kernel,
        initrd=initrd,
        append=append,
        vcpus=vcpus,
        vcpu_type=vcpu_type,
        vmm=vmm,
        guest_features=features,
    )
    assert snp.launch_digest(launch) == expected


def test_a_table_gives_the_same_digests_as_single_launches():
    launch = snp.SnpLaunch(ovmf=_SMALL)
    rows = snp.launch_digests(launch, [4, 1, 2, 2], ["EPYC-v4", "EPYC-Milan"])
    assert [(row.vcpus, row.vcpu_type) for row in rows] == [
        (n, t) for t in ("EPYC-v4", "EPYC-Milan") for n in (1, 2, 4)
    ]
    for row in rows:
        single = dataclasses.replace(launch, vcpus=row.vcpus, vcpu_type=row.vcpu_type)
        assert snp.launch_digest(single) == row.digest


def test_each_input_moves_the_digest():
    base = snp.SnpLaunch(ovmf=_SMALL, kernel=b"kernel", initrd=b"initrd", append="quiet", vcpus=2)
    changes = [
        {"ovmf": synthetic_ovmf(3 * PAGE, tag=b"x")},
        {"kernel": b"kernel2"},
        {"initrd": None},
        {"append": "quiet "},
        {"vcpus": 3},
        {"vcpu_type": "EPYC-Milan"},
        {"vmm": snp.Vmm.EC2},
        {"vmm": snp.Vmm.GCE},
        {"guest_features": 0x21},
    ]
    found = [snp.launch_digest(dataclasses.replace(base, **change)) for change in [{}, *changes]]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    "launch",
    [
        snp.SnpLaunch(ovmf=_SMALL, initrd=b"x"),
        snp.SnpLaunch(ovmf=_SMALL, append="x"),
        snp.SnpLaunch(ovmf=_SMALL, vcpus=0),
        snp.SnpLaunch(ovmf=_SMALL, vcpus=snp.MAX_VCPUS + 1),
        snp.SnpLaunch(ovmf=_SMALL, vcpu_type="EPYC-v99"),
        snp.SnpLaunch(ovmf=_SMALL, guest_features=1 << 64),
        snp.SnpLaunch(ovmf=_SMALL, guest_features=-1),
    ],
)
def test_what_cannot_be_asked_for_is_a_usage_error(launch):
    with pytest.raises(UsageError):
        snp.launch_digest(launch)


@pytest.mark.parametrize(
    ("firmware", "launch"),
    [
        ({"hash_table_gpa": None}, {"kernel": b""}),
        ({"hash_table_gpa": 0}, {"kernel": b""}),
        ({"hash_table_gpa": 0x900000}, {"kernel": b""}),
        ({"hash_table_gpa": 0x810FFF}, {"kernel": b""}),
        ({"sections": SECTIONS[:-1]}, {"kernel": b""}),
        ({"reset_eip": None}, {"vcpus": 2}),
    ],
    ids=["no entry", "dead entry", "elsewhere", "over the edge", "no section", "no reset block"],
)
def test_firmware_that_would_not_measure_the_kernel_or_not_start_the_processors_is_refused(firmware, launch):
    ovmf = synthetic_ovmf(2 * PAGE, **firmware)
    with pytest.raises(UnsupportedEvidence):
        snp.launch_digest(snp.SnpLaunch(ovmf=ovmf, **launch))
    assert snp.launch_digest(snp.SnpLaunch(ovmf=ovmf))


def _patched(old: bytes, new: bytes) -> bytes:
    assert _SMALL.count(old) == 1
    return _SMALL.replace(old, new)


_METADATA_GUID = SEV_METADATA.bytes_le


@pytest.mark.parametrize(
    "firmware",
    [
        b"",
        bytes(PAGE),
        _SMALL[:-1],
        bytes(MAX_SIZE + PAGE),
        _patched(_METADATA_GUID, bytes(16)),
        _patched(b"ASEV", b"ASEW"),
        synthetic_ovmf(2 * PAGE, sections=()),
        synthetic_ovmf(2 * PAGE, sections=((0x1000, PAGE, 99),)),
        synthetic_ovmf(2 * PAGE, sections=((0x1001, PAGE, 1),)),
        synthetic_ovmf(2 * PAGE, sections=((0x1000, 0, 1),)),
        synthetic_ovmf(2 * PAGE, sections=((0xFFFFF000, 2 * PAGE, 1),)),
        synthetic_ovmf(2 * PAGE, sections=((0x1000, 0xF0000000, 1),)),
        synthetic_ovmf(2 * PAGE, sections=((0x1000, 2 * PAGE, SectionType.CPUID),)),
        synthetic_ovmf(2 * PAGE, sections=((0x1000, 2 * PAGE, 1), (0x2000, PAGE, 1))),
        synthetic_ovmf(3 * PAGE, sections=((0x1000, PAGE, 1),) * 65),
    ],
)
def test_bytes_that_are_no_firmware_for_snp_are_malformed(firmware):
    with pytest.raises(MalformedEvidence):
        snp.launch_digest(snp.SnpLaunch(ovmf=firmware))


def test_a_footer_table_that_points_outside_of_the_image_is_malformed():
    end = len(_SMALL) - 32 - 18
    for position, value in ((end, 0xFFFF), (end, 1), (end - 18, 0xFFFF), (end - 18, 3)):
        broken = bytearray(_SMALL)
        broken[position : position + 2] = value.to_bytes(2, "little")
        with pytest.raises(MalformedEvidence):
            parse_ovmf(bytes(broken))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, PAGE - 1), st.binary(min_size=1, max_size=8))
def test_any_bytes_in_the_tables_give_a_digest_or_a_clear_error(position, splice):
    broken = bytearray(_SMALL)
    start = len(_SMALL) - PAGE + position
    broken[start : start + len(splice)] = splice
    broken = broken[: len(_SMALL)]
    try:
        parse_ovmf(bytes(broken))
    except Error:
        return


def test_the_stand_in_is_read_back_as_it_was_written():
    ovmf = parse_ovmf(synthetic_ovmf())
    assert [tuple(section) for section in ovmf.sections] == [tuple(section) for section in SECTIONS]
    assert (ovmf.hash_table_gpa, ovmf.reset_eip) == (0x810C00, 0x80B004)
    with pytest.raises(UsageError):
        synthetic_ovmf(100)
