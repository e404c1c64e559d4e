"""RTMR0 to RTMR2: constants from their data, events of real logs, and what each generation of firmware changes."""

from __future__ import annotations

import dataclasses

import pytest

from dokimos.errors import MalformedEvidence, UnsupportedEvidence, UsageError
from dokimos.evidence.ccel import EventKind, describe, kind, parse_ccel
from dokimos.evidence.uefi import GLOBAL_VARIABLE, IMAGE_SECURITY_DATABASE, load_option, variable
from dokimos.measurements.authenticode import authenticode_sha384
from dokimos.measurements.firmware_profile import Generation, InitrdOption, detect_profile, named_profile
from dokimos.measurements.ovmf import PAGE
from dokimos.measurements.qemu_kernel import KernelForm, patched_kernel
from dokimos.measurements.rtmr import (
    KERNEL_BOOT_ORDER,
    SEPARATOR,
    AcpiTables,
    Basis,
    boot_variables,
    extend,
    register_value,
    sha384,
    variable_data,
    with_given,
)
from dokimos.measurements.rtmr_boot import (
    CALLING,
    EXIT_INVOCATION,
    EXIT_SUCCESS,
    DirectBoot,
    direct_events,
    gpt_event,
    kernel_form,
    load_options,
)
from dokimos.measurements.synthetic_ovmf import TDX_MARKS, synthetic_tdvf, tdvf_sections
from dokimos.measurements.synthetic_pe import synthetic_kernel, synthetic_uki
from dokimos.measurements.tdvf import TdvfType, parse_tdvf
from dokimos.measurements.tdx import TdxLaunch, tdx_measurements
from dokimos.measurements.variable_store import SecureBootVariables, parse_variable_store, secure_boot_variables

_GIB = 1 << 30
_KERNEL = synthetic_kernel()
_VARS_4M = 0x84000
_NEW = synthetic_tdvf(4 << 20, variables=_VARS_4M)
_OLD_SECTIONS = (
    *tdvf_sections(4 << 20, _VARS_4M)[:2],
    (0, 0, 0x810000, 0x10000, TdvfType.TEMP_MEM, 0),
    *tdvf_sections(4 << 20)[3:],
)
_OLD = synthetic_tdvf(4 << 20, variables=_VARS_4M, sections=_OLD_SECTIONS)

# What real logs have for data that is known.
_EMPTY = {
    "SecureBoot": "9dc3a1f80bcec915391dcda5ffbb15e7419f77eab462bbf72b42166fb70d50325e37b36f93537a863769bcf9bedae6fb",
    "PK": "6f2e3cbc14f9def86980f5f66fd85e99d63e69a73014ed8a5633ce56eca5b64b692108c56110e22acadcef58c3250f1b",
    "KEK": "d607c0efb41c0d757d69bca0615c3a9ac0b1db06c557d992e906c6b7dee40e0e031640c7bfd7bcd35844ef9edeadc6f9",
    "db": "08a74f8963b337acb6c93682f934496373679dd26af1089cb4eaf0c30cf260a12e814856385ab8843e56a9acea19e127",
    "dbx": "18cc6e01f0c6ea99aa23f8a280423e94ad81d96d0aeb5180504fc0f7a40cb3619dd39bd6a95ec1680a86ed6ab0f9828d",
}
_SEPARATOR = "394341b7182cd227c5c6b07ef8000cdfd86136c4292b8e576573ad7ed9ae41019f5818b4b971c9effc60e1ad9f1289f0"
_BOOT_ORDER = "1dd6f7b457ad880d840d41c961283bab688e94e4b59359ea45686581e90feccea3c624b1226113f824f315eb60ae0a7c"
_UI_APP = "23ada07f5261f12f34a0bd8e46760962d6b4d576a416f1fea1c64bc656b1d28eacf7047ae6e967c58fd2a98bfa74c298"
_CALLING = "77a0dab2312b4e1e57a84d865a21e5b2ee8d677a21012ada819d0a98988078d3d740f6346bfe0abaa938ca20439a8d71"
_INVOCATION = "214b0bef1379756011344877743fdc2a5382bac6e70362d624ccf3f654407c1b4badf7d8f9295dd3dabdef65b27677e0"
_SUCCESS = "0a2e01c85deae718a530ad8c6d20a84009babe6c8989269e950d8cf440c6e997695e64d455c4174a652cd080f6230b74"
_CFV_4M = "344bc51c980ba621aaa00da3ed7436f7d6e549197dfe699515dfa2c6583d95e6412af21c097d473155875ffd561d6790"
_CFV_2M = "f87302177b059d54a2cf0c5f13340dbabf5c9dd60dc3f996c68b776fbe4de959769443a3d8ef6538b97d7e151c8298e8"
_CFV_MS = "327d4a91229b3993a7f6f64740d94ff689d44b45edada6e255596d4c7aa287576a92fb1f5c350c287caf60670a5bad5a"
# A dump of QEMU's own boot order in a TD, by other people.
_QEMU_BOOT_ORDER = "53d3dbc00691328371e74c1b1c77bdf1bf4ff79dd1b55222b694fe8341cd8b0adb3a9ab9286552c681272883b9b0fc1d"


def _launch(firmware: bytes = _NEW, **options) -> TdxLaunch:
    return TdxLaunch(firmware=firmware, **{"memory": 2 * _GIB, "kernel": _KERNEL, **options})


def _events(firmware: bytes = _NEW, **options):
    return {event.id: event for event in tdx_measurements(_launch(firmware, **options)).events}


def test_the_constants_of_real_logs_come_from_their_data():
    events = _events()
    assert {name: events[name].digest.hex() for name in _EMPTY} == _EMPTY
    assert events["separator"].digest.hex() == sha384(SEPARATOR).hex() == _SEPARATOR
    assert events["boot-order"].digest.hex() == _BOOT_ORDER
    assert events["boot0000"].digest.hex() == _UI_APP
    assert events["cfv"].digest.hex() == _CFV_4M
    assert [sha384(text).hex() for text in (CALLING, EXIT_INVOCATION, EXIT_SUCCESS)] == [
        _CALLING,
        _INVOCATION,
        _SUCCESS,
    ]
    assert sha384(KERNEL_BOOT_ORDER).hex() == _QEMU_BOOT_ORDER


@pytest.mark.parametrize(("name", "digest"), [("bookworm", _CFV_2M), ("trixie", _CFV_4M), ("sid inteltdx", _CFV_MS)])
def test_variable_stores_of_debians_firmware_have_their_published_digest(debian, name, digest):
    tdvf = parse_tdvf(debian(name))
    assert sha384(bytes(tdvf.content(tdvf.only(TdvfType.CFV)))).hex() == digest


@pytest.mark.parametrize(
    ("set_name", "file", "firmware", "generation"),
    [
        ("ccel_direct_boot_live2", "ccel.bin", _NEW, None),
        ("ccel_parse_only", "CCEL_data_ovmf", _OLD, Generation.PRE_202411),
    ],
)
def test_every_event_of_a_real_log_whose_inputs_are_known_is_predicted(vectors, set_name, file, firmware, generation):
    log = parse_ccel(vectors(f"tdx/{set_name}").bytes(file))
    found = tdx_measurements(_launch(firmware, generation=generation, initrd=b"unknown", append="unknown"))
    unknown = {"acpi:loader", "acpi:rsdp", "acpi:tables", "kernel", "command-line", "initrd"}
    for register in (0, 1, 2):
        actual = [event for event in log.events if event.mr == register + 1]
        wanted = found.register_events(register)
        assert [event.kind for event in wanted] == [kind(event) for event in actual]
        for expected, event in zip(wanted, actual, strict=True):
            assert describe(event).startswith(expected.label)
            assert (expected.digest == event.digest) == (expected.id not in unknown), expected.id
            assert (expected.basis is Basis.CONFIRMED) == (expected.id not in unknown)


def test_rtmr0_and_rtmr1_of_a_real_quote_come_out_once_the_unknown_digests_are_given(vectors):
    found = vectors("tdx/ccel_direct_boot_live2")
    log = parse_ccel(found.bytes("ccel.bin"))
    kinds = {
        EventKind.ACPI_LOADER: "acpi:loader",
        EventKind.ACPI_RSDP: "acpi:rsdp",
        EventKind.ACPI_TABLES: "acpi:tables",
    }
    kinds |= {EventKind.BOOT_APPLICATION: "kernel", EventKind.COMMAND_LINE: "command-line", EventKind.INITRD: "initrd"}
    given = {kinds[kind(event)]: event.digest for event in log.events if kind(event) in kinds}
    measured = tdx_measurements(_launch(initrd=b"x", append="x", digests=given))
    values = [measured.rtmr0.hex(), measured.rtmr1.hex(), measured.rtmr2.hex()]
    assert values == found.manifest["expected"]["quote"]["rtmr"][:3]


def test_acpi_tables_are_hashed_as_they_are_and_left_open_where_they_are_not_there():
    acpi = AcpiTables(loader=b"loader", rsdp=b"rsdp", tables=b"tables")
    events = _events(acpi=acpi)
    assert [events[f"acpi:{name}"].digest for name in ("loader", "rsdp", "tables")] == [
        sha384(b"loader"),
        sha384(b"rsdp"),
        sha384(b"tables"),
    ]
    assert tdx_measurements(_launch(acpi=acpi)).rtmr0 is not None
    for part in (None, dataclasses.replace(acpi, tables=None)):
        measured = tdx_measurements(_launch(acpi=part))
        assert measured.rtmr0 is None
        assert measured.basis(0) is Basis.OPEN
        assert measured.rtmr1


def test_a_register_is_the_chain_of_its_events():
    one, two = sha384(b"1"), sha384(b"2")
    assert extend([]) == bytes(48)
    assert extend([one, two]) == sha384(sha384(bytes(48) + one) + two)
    events = tdx_measurements(_launch()).events
    assert register_value(events, 1) == extend(event.digest for event in events if event.register == 1)


def test_secure_boot_variables_are_hashed_with_guid_name_and_lengths():
    given = SecureBootVariables(secure_boot=b"\x01", pk=b"pk", kek=b"kek", db=b"db", dbx=b"", dbt=b"dbt")
    events = _events(secure_boot=given)
    rows = [("SecureBoot", GLOBAL_VARIABLE, b"\x01"), ("PK", GLOBAL_VARIABLE, b"pk"), ("KEK", GLOBAL_VARIABLE, b"kek")]
    rows += [("db", IMAGE_SECURITY_DATABASE, b"db"), ("dbx", IMAGE_SECURITY_DATABASE, b"")]
    for name, guid, content in [*rows, ("dbt", IMAGE_SECURITY_DATABASE, b"dbt")]:
        data = variable_data(guid, name, content)
        assert variable(data).data == content
        assert events[name].digest == sha384(data)
    assert events["authority"].digest is None
    assert "dbt" not in _events()
    assert "authority" not in _events()


def test_variables_of_real_logs_have_the_digest_that_their_content_gives(vectors):
    log = parse_ccel(vectors("tdx/ccel_parse_only").bytes("CCEL_data_grub"))
    found = {}
    for event in log.events:
        if kind(event) is EventKind.SECURE_BOOT_VARIABLE:
            content = variable(event.data)
            assert sha384(variable_data(content.guid, content.name, content.data)) == event.digest
            found[content.name] = content.data
    assert found["SecureBoot"] == b"\x01"
    assert len(found) == 5


def test_keys_that_an_image_brings_with_it_are_measured(debian):
    store = parse_variable_store(debian("trixie ms vars"))
    variables = secure_boot_variables(store)
    assert variables.enforced
    assert len(variables.pk) > 500 < len(variables.db)
    joined = debian("trixie ms vars") + debian("trixie code")
    events = _events(joined)
    assert events["PK"].digest == sha384(variable_data(GLOBAL_VARIABLE, "PK", variables.pk))
    assert events["SecureBoot"].digest == sha384(variable_data(GLOBAL_VARIABLE, "SecureBoot", b"\x01"))
    inteltdx = debian("sid inteltdx")
    tdvf = parse_tdvf(inteltdx)
    own = secure_boot_variables(parse_variable_store(bytes(tdvf.content(tdvf.only(TdvfType.CFV)))))
    assert own.enforced
    assert _events(inteltdx)["db"].digest == sha384(variable_data(IMAGE_SECURITY_DATABASE, "db", own.db))


def test_a_store_without_keys_says_whether_secure_boot_is_built_in():
    assert secure_boot_variables({}).secure_boot == b""
    assert secure_boot_variables({}, supported=True).secure_boot == b"\0"
    marks = (*TDX_MARKS, "SecureBootEnable\0".encode("utf-16-le"))
    built_in = _events(synthetic_tdvf(6 * PAGE, marks=marks))
    assert built_in["SecureBoot"].digest == sha384(variable_data(GLOBAL_VARIABLE, "SecureBoot", b"\0"))


def test_a_variable_store_that_cannot_be_read_leaves_its_variables_open():
    broken = bytearray(synthetic_tdvf(6 * PAGE))
    broken[0x28:0x2C] = b"XXXX"
    events = _events(bytes(broken))
    assert {events[name].digest for name in _EMPTY} == {None}
    assert tdx_measurements(_launch(bytes(broken))).rtmr0 is None


@pytest.mark.parametrize(
    ("name", "generation", "version", "measured", "secure_boot"),
    [
        ("bookworm", Generation.PRE_202411, None, False, True),
        ("trixie", Generation.STABLE_202502, "2025.02", True, False),
        ("sid", Generation.STABLE_202508, "2026.08", True, False),
        ("sid inteltdx", Generation.STABLE_202508, "2026.08", True, True),
        ("sid amdsev", Generation.STABLE_202508, "2026.08", False, False),
    ],
)
def test_real_firmware_tells_its_generation(debian, name, generation, version, measured, secure_boot):
    profile = detect_profile(debian(name))
    assert (profile.name, profile.version, profile.measured_boot) == (generation, version, measured)
    assert profile.secure_boot == secure_boot
    if measured:
        wanted = dataclasses.replace(named_profile(generation), version=version, secure_boot=secure_boot)
        assert profile == wanted


def test_firmware_that_measures_no_boot_is_refused_beside_a_kernel_and_has_an_mrtd_without(debian):
    for name in ("bookworm", "sid amdsev"):
        with pytest.raises(UnsupportedEvidence, match="stay zero whatever it boots"):
            tdx_measurements(_launch(debian(name)))
        assert tdx_measurements(_launch(debian(name), kernel=None)).rtmr0 is None


def _marks(*texts: bytes) -> bytes:
    return synthetic_tdvf(8 * PAGE, marks=(TDX_MARKS[0], *texts))


def test_a_generation_is_told_by_its_marks_or_by_what_the_image_says():
    version = "2024.02-3+tdx1.0\0".encode("utf-16-le")
    assert detect_profile(_marks(version)).late_separator == 0
    assert detect_profile(_marks("2024.11-5\0".encode("utf-16-le"))).name is Generation.STABLE_202411
    assert detect_profile(_marks(b"edk2-stable202408")).name is Generation.PRE_202411
    assert detect_profile(_marks(b"etc/boot/")).name is Generation.STABLE_202502
    menu = detect_profile(_marks(b"etc/boot/", "BootManagerMenuApp\0".encode("utf-16-le"), b"QEMU FW CFG"))
    assert (menu.name, menu.fw_cfg, menu.initrd_option) == (Generation.STABLE_202505, True, InitrdOption.SUFFIX)
    assert detect_profile(_marks(b"etc/boot/", b"initrd=initrd ")).name is Generation.STABLE_202508


def test_a_generation_that_cannot_be_told_is_not_guessed():
    with pytest.raises(UnsupportedEvidence, match="does not say its version"):
        detect_profile(_marks())
    with pytest.raises(UnsupportedEvidence, match="name its profile"):
        detect_profile(synthetic_tdvf(8 * PAGE, marks=()))
    assert detect_profile(synthetic_tdvf(8 * PAGE, marks=()), Generation.STABLE_202411).late_separator == 1
    assert detect_profile(_marks(), Generation.PRE_202411).late_separator == 0


def test_the_late_separator_moves_from_rtmr0_to_rtmr1():
    for generation, register in ((Generation.PRE_202411, 0), (Generation.STABLE_202411, 1)):
        found = tdx_measurements(_launch(generation=generation))
        (event,) = [event for event in found.events if event.id == "late-separator"]
        assert event.register == register
        assert len(found.register_events(0)) + len(found.register_events(1)) == 18


def test_newer_firmware_measures_configuration_smbios_and_other_boot_options():
    events = _events(generation=Generation.STABLE_202505, firmware=synthetic_tdvf(6 * PAGE, marks=()))
    assert events["fw-cfg:BootMenu"].digest == sha384(b"\0\0")
    assert events["fw-cfg:bootorder"].digest.hex() == _QEMU_BOOT_ORDER
    assert events["smbios"].digest is None
    order, ((first, menu), (second, setup)) = boot_variables(named_profile(Generation.STABLE_202505))
    assert order == b"\0\0\1\0"
    assert (first, second) == ("Boot0000 BootManagerMenuApp", "Boot0001 EFI Firmware Setup")
    assert load_option(menu).description == "BootManagerMenuApp"
    assert load_option(setup).description == "EFI Firmware Setup"
    assert (load_option(menu).attributes, load_option(setup).attributes) == (0x109, 0x101)
    ids = list(events)
    assert ids.index("cfv") < ids.index("fw-cfg:BootMenu") < ids.index("SecureBoot") < ids.index("smbios")


def test_configuration_of_a_machine_replaces_the_assumed_one():
    items = {"bootorder": b"/pci@i0cf8/scsi@2/disk@0,0\0", "BootMenu": b"\1\0", "etc/boot-menu-wait": b"\2\0"}
    events = _events(generation=Generation.STABLE_202508, fw_cfg=items)
    fw_cfg = [name for name in events if name.startswith("fw-cfg:")]
    assert fw_cfg == ["fw-cfg:BootMenu", "fw-cfg:etc/boot-menu-wait", "fw-cfg:bootorder"]
    assert events["fw-cfg:bootorder"].digest == sha384(items["bootorder"])


def test_the_command_line_gets_the_firmwares_own_word():
    old, new = named_profile(Generation.STABLE_202502), named_profile(Generation.STABLE_202508)
    assert load_options(old, "quiet", initrd=True) == "quiet initrd=initrd\0".encode("utf-16-le")
    assert load_options(new, "quiet", initrd=True) == "initrd=initrd quiet\0".encode("utf-16-le")
    assert load_options(old, "quiet", initrd=False) == "quiet\0".encode("utf-16-le")
    assert load_options(old, "", initrd=True) == " initrd=initrd\0".encode("utf-16-le")
    assert load_options(old, "", initrd=False) is None
    assert load_options(old, "é", initrd=False) == b"\xc3\0\xa9\0\0\0"


@pytest.mark.parametrize(
    ("generation", "qemu", "form"),
    [
        (Generation.PRE_202411, (8, 2), KernelForm.PATCHED),
        (Generation.STABLE_202411, (10, 1), KernelForm.PATCHED),
        (Generation.STABLE_202411, (10, 2), KernelForm.RAW),
        (Generation.STABLE_202502, (9, 2), KernelForm.PATCHED),
        (Generation.STABLE_202502, (10, 0), KernelForm.RAW),
        (Generation.STABLE_202508, (9, 2), KernelForm.PATCHED),
        (Generation.STABLE_202508, (10, 1), KernelForm.RAW),
        (Generation.PRE_202411, None, KernelForm.PATCHED),
        (Generation.STABLE_202502, None, KernelForm.PATCHED),
        (Generation.STABLE_202505, None, KernelForm.RAW),
    ],
)
def test_firmware_and_qemu_decide_how_the_kernel_is_measured(generation, qemu, form):
    found, note = kernel_form(named_profile(generation), qemu)
    assert found is form
    assert bool(note) == (qemu is None)


def test_the_kernel_is_hashed_in_its_form():
    boot = DirectBoot(kernel=_KERNEL, initrd=b"i" * 5000, append="quiet", memory=4 * _GIB)
    profile = named_profile(Generation.STABLE_202502)
    for form, kernel in (
        (KernelForm.RAW, _KERNEL),
        (KernelForm.PATCHED, patched_kernel(_KERNEL, initrd_size=5000, memory=4 * _GIB, append="quiet")),
    ):
        events = direct_events(profile, dataclasses.replace(boot, form=form))
        assert events[0].digest == authenticode_sha384(kernel)


def test_a_kernel_without_a_sign_of_measuring_leaves_its_events_open():
    silent = _events(kernel=synthetic_kernel(marks=()), initrd=b"x", append="quiet")
    assert (silent["command-line"].digest, silent["initrd"].digest) == (None, None)
    assert "then nobody does" in silent["initrd"].note
    assert "initrd" not in _events(initrd=b"", append="quiet")


def test_a_real_kernel_shows_that_it_measures_and_has_both_forms(debian):
    events = _events(kernel=debian("kernel"), initrd=b"x", append="quiet")
    assert events["command-line"].digest == sha384("quiet initrd=initrd\0".encode("utf-16-le"))
    assert events["initrd"].digest == sha384(b"x")
    raw = _events(kernel=debian("kernel"), kernel_form=KernelForm.RAW)["kernel"].digest
    assert raw == authenticode_sha384(debian("kernel")) != events["kernel"].digest


def test_a_unified_image_is_measured_as_a_real_log_of_one_shows_it(vectors):
    uki = synthetic_uki(kernel=synthetic_kernel(marks=()), cmdline="quiet", initrd=b"initrd")
    found = tdx_measurements(_launch(kernel=None, uki=uki))
    log = parse_ccel(vectors("tdx/ccel_parse_only").bytes("CCEL_data_grub_gke"))
    for register in (1, 2):
        actual = [event for event in log.events if event.mr == register + 1]
        wanted = found.register_events(register)
        assert [event.kind for event in wanted] == [kind(event) for event in actual]
        for expected, event in zip(wanted, actual, strict=True):
            assert describe(event).startswith(expected.label)
            if expected.id.endswith(":name") or expected.kind in (EventKind.SEPARATOR, EventKind.EFI_ACTION):
                assert expected.digest == event.digest


def test_a_unified_image_is_measured_by_its_parts():
    kernel = synthetic_kernel(marks=())
    uki = synthetic_uki(kernel=kernel, cmdline="quiet", initrd=b"initrd")
    events = _events(kernel=None, uki=uki)
    assert events["uki"].digest == authenticode_sha384(uki)
    assert events["uki-kernel"].digest == authenticode_sha384(kernel)
    assert events[".cmdline:content"].digest == sha384(b"quiet")
    assert events[".linux:name"].digest == sha384(b".linux\0")
    assert [event.digest for event in events.values() if event.id in ("boot-order", "gpt")] == [None, None]
    talkative = _events(kernel=None, uki=synthetic_uki(kernel=_KERNEL, cmdline="quiet"))
    assert (talkative["command-line"].digest, talkative["initrd"].digest) == (None, None)
    with pytest.raises(MalformedEvidence, match=r"no section \.linux"):
        _events(kernel=None, uki=_KERNEL)


def _disk(header: bytes, entries: list[bytes]) -> bytes:
    table = b"".join(entries).ljust(128 * 128, b"\0")
    return bytes(512) + header.ljust(512, b"\0") + table


@pytest.mark.parametrize("file", ["CCEL_data_grub", "CCEL_data_grub_gke", "CCEL_data_gcp"])
def test_a_disk_gives_the_partition_event_of_a_real_log(vectors, file):
    log = parse_ccel(vectors("tdx/ccel_parse_only").bytes(file))
    (event,) = [event for event in log.events if kind(event) is EventKind.GPT]
    entries = [event.data[at : at + 128] for at in range(100, len(event.data), 128)]
    spread = [part for entry in entries for part in (bytes(128), entry)]
    disk = _disk(event.data[:92], spread)
    assert gpt_event(disk) == event.data
    assert sha384(gpt_event(disk)) == event.digest
    launch = _launch(kernel=None, uki=synthetic_uki(kernel=_KERNEL, cmdline=""), disk=disk)
    assert {e.id: e.digest for e in tdx_measurements(launch).events}["gpt"] == event.digest


@pytest.mark.parametrize(
    "disk", [b"", bytes(4096), bytes(512) + b"EFI PART" + bytes(600), bytes(512) + b"EFI PART" + b"\xff" * 600]
)
def test_a_disk_without_a_partition_table_is_malformed(disk):
    with pytest.raises(MalformedEvidence):
        gpt_event(disk)


def test_digests_that_are_given_count_and_are_called_given():
    events = tdx_measurements(_launch()).events
    given = {f"acpi:{name}": sha384(name.encode()) for name in ("loader", "rsdp", "tables")}
    found = tdx_measurements(_launch(digests=given))
    assert found.rtmr0
    assert found.basis(0) is Basis.GIVEN
    with pytest.raises(UsageError, match="no event 'acpi'"):
        with_given(events, {"acpi": bytes(48)})
    with pytest.raises(UsageError, match="48 bytes"):
        with_given(events, {"acpi:rsdp": bytes(32)})


@pytest.mark.parametrize(
    "options",
    [
        {"uki": synthetic_uki(kernel=_KERNEL, cmdline="")},
        {"kernel": None, "initrd": b""},
        {"kernel": None, "append": ""},
        {"disk": b""},
        {"append": "a\0b"},
        {"vcpus": 0},
        {"vcpus": 5000},
        {"memory": 0},
    ],
)
def test_what_does_not_go_together_is_a_usage_error(options):
    with pytest.raises(UsageError):
        tdx_measurements(_launch(**options))


@pytest.mark.parametrize(
    "data",
    [b"", bytes(100), _NEW[:0x40], _NEW[:0x28] + b"XXXX" + _NEW[0x2C:0x100], _NEW[:0x100], _NEW[:0x48] + bytes(0x100)],
)
def test_bytes_that_are_no_variable_store_are_malformed(data):
    with pytest.raises(MalformedEvidence):
        parse_variable_store(data)
