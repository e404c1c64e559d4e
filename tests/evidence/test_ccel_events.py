"""What each event of a TD's log measures, and what of it is checked against its data."""

from __future__ import annotations

import hashlib
import json
import struct
import time
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dokimos.errors import MalformedEvidence
from dokimos.evidence import uefi
from dokimos.evidence.ccel import DataCheck, Event, EventKind, EventType, check_data, describe, kind, parse_ccel
from dokimos.evidence.ccel_events import LABEL_MAX
from dokimos.evidence.uefi import GLOBAL_VARIABLE, IMAGE_SECURITY_DATABASE, QEMU_KERNEL_LOADER_FS, STUB_PAYLOAD

END = b"\x7f\xff\4\0"
SHIM_LOCK = UUID("605dab50-e046-4300-abb6-3dd810dd8b23")


def event(event_type: EventType, data: bytes, mr: int, hashed: bytes | None = None, repeat: int = 0) -> Event:
    """An event whose digest is the hash of `hashed`, or of something that is not there."""
    digest = hashlib.sha384(b"an image" if hashed is None else hashed).digest()
    return Event(number=1, mr=mr, type=event_type, digest=digest, data=data, repeat=repeat)


def variable(guid: UUID, name: str, data: bytes = b"") -> bytes:
    """UEFI_VARIABLE_DATA."""
    return guid.bytes_le + struct.pack("<QQ", len(name), len(data)) + name.encode("utf-16-le") + data


def node(kind: int, subtype: int, data: bytes) -> bytes:
    """A node of a device path."""
    return struct.pack("<BBH", kind, subtype, 4 + len(data)) + data


def image(*nodes: bytes) -> bytes:
    """UEFI_IMAGE_LOAD_EVENT."""
    path = b"".join(nodes) + END
    return struct.pack("<QQQQ", 0x7AE45018, 0x1038848, 0, len(path)) + path


def file_node(name: str) -> bytes:
    """A file path node."""
    return node(4, 4, f"{name}\0".encode("utf-16-le"))


def option(description: str) -> bytes:
    """EFI_LOAD_OPTION."""
    path = file_node("\\EFI\\BOOT\\BOOTX64.EFI") + END
    return struct.pack("<IH", 1, len(path)) + f"{description}\0".encode("utf-16-le") + path + b"more"


def shim(name: bytes, content: bytes) -> bytes:
    """TD_SHIM_PLATFORM_CONFIG_INFO."""
    return struct.pack("<16sI", name, len(content)) + content


def tag(number: int, text: bytes) -> bytes:
    """A tagged event."""
    return struct.pack("<II", number, len(text)) + text


def blob(name: bytes) -> bytes:
    """UEFI_PLATFORM_FIRMWARE_BLOB2."""
    return bytes((len(name),)) + name + struct.pack("<QQ", 0xFFC00000, 0x84000)


GPT = b"EFI PART" + bytes(84) + struct.pack("<Q", 2) + bytes(256)
BOOT = variable(GLOBAL_VARIABLE, "Boot0001", option("UEFI Misc Device"))
GRUB_CMDLINE = b"grub_kernel_cmdline (hd0,gpt3)/vmlinuz root=/dev/vda1"

MATCHES, DIGEST_ONLY, DIFFERS = DataCheck.MATCHES, DataCheck.DIGEST_ONLY, DataCheck.DIFFERS
T, K = EventType, EventKind

# Type, data, register, what the digest is the hash of (None: of something else); kind, label, check.
EVENTS = [
    (T.EV_EFI_HANDOFF_TABLES2, b"\x09TdxTable\0" + bytes(32), 1, None, K.TD_HOB, "TD HOB", DIGEST_ONLY),
    (T.EV_EFI_PLATFORM_FIRMWARE_BLOB2, blob(b"Fv(X)\0"), 1, None, K.CFV, "CFV", DIGEST_ONLY),
    (T.EV_EFI_PLATFORM_FIRMWARE_BLOB2, blob(b"td_payload\0"), 2, None, K.PAYLOAD, "payload (td-shim)", DIGEST_ONLY),
    (T.EV_PLATFORM_CONFIG_FLAGS, b"etc/table-loader\0", 1, None, K.ACPI_LOADER, "ACPI loader", DIGEST_ONLY),
    (T.EV_PLATFORM_CONFIG_FLAGS, b"etc/acpi/rsdp".ljust(56, b"\0"), 1, None, K.ACPI_RSDP, "ACPI RSDP", DIGEST_ONLY),
    (
        T.EV_PLATFORM_CONFIG_FLAGS,
        b"QEMU FW CFG\0" + b"etc/acpi/tables".ljust(56, b"\0"),
        1,
        None,
        K.ACPI_TABLES,
        "ACPI tables",
        DIGEST_ONLY,
    ),
    (
        T.EV_PLATFORM_CONFIG_FLAGS,
        b"QEMU FW CFG\0" + b"etc/e820".ljust(56, b"\0"),
        1,
        None,
        K.FW_CFG,
        "fw_cfg etc/e820",
        DIGEST_ONLY,
    ),
    (T.EV_PLATFORM_CONFIG_FLAGS, shim(b"td_hob", b"HOB"), 1, b"HOB", K.TD_HOB, "TD HOB (td-shim)", MATCHES),
    (T.EV_PLATFORM_CONFIG_FLAGS, shim(b"td_hob", b"HOB"), 1, b"hob", K.TD_HOB, "TD HOB (td-shim)", DIFFERS),
    (
        T.EV_PLATFORM_CONFIG_FLAGS,
        shim(b"td_payload_info", b"root=/dev/vda1"),
        2,
        b"root=/dev/vda1",
        K.COMMAND_LINE,
        "kernel command line (td-shim)",
        MATCHES,
    ),
    (T.EV_PLATFORM_CONFIG_FLAGS, shim(b"td_payload_svn", b"1"), 1, b"1", K.OTHER, "td_payload_svn", MATCHES),
    (T.EV_SEPARATOR, bytes(4), 1, bytes(4), K.SEPARATOR, "separator", MATCHES),
    (T.EV_SEPARATOR, b"\xff" * 4, 2, b"\xff" * 4, K.SEPARATOR, "separator", MATCHES),
    (T.EV_SEPARATOR, b"\1\0\0\0", 2, b"\1\0\0\0", K.SEPARATOR, "separator after an error", MATCHES),
    (T.EV_SEPARATOR, bytes(4), 2, bytes(3), K.SEPARATOR, "separator", DIFFERS),
    (T.EV_EFI_VARIABLE_BOOT, BOOT, 1, BOOT, K.BOOT_VARIABLE, "Boot0001 UEFI Misc Device (whole variable)", MATCHES),
    (
        T.EV_EFI_VARIABLE_BOOT2,
        BOOT,
        2,
        option("UEFI Misc Device"),
        K.BOOT_VARIABLE,
        "Boot0001 UEFI Misc Device (data only)",
        MATCHES,
    ),
    (T.EV_EFI_VARIABLE_BOOT, BOOT, 1, None, K.BOOT_VARIABLE, "Boot0001 UEFI Misc Device", DIFFERS),
    (
        T.EV_EFI_VARIABLE_BOOT,
        variable(GLOBAL_VARIABLE, "Boot00AF", b"?"),
        1,
        b"?",
        K.BOOT_VARIABLE,
        "Boot00AF (data only)",
        MATCHES,
    ),
    (
        T.EV_EFI_VARIABLE_BOOT,
        variable(GLOBAL_VARIABLE, "BootOrder", b"\0\0"),
        1,
        b"\0\0",
        K.BOOT_ORDER,
        "BootOrder (data only)",
        MATCHES,
    ),
    (T.EV_EFI_VARIABLE_BOOT, variable(SHIM_LOCK, "BootOrder"), 1, None, K.OTHER, f"BootOrder of {SHIM_LOCK}", DIFFERS),
    (T.EV_EFI_VARIABLE_BOOT, b"short", 1, b"short", K.OTHER, "EV_EFI_VARIABLE_BOOT (malformed)", MATCHES),
    (
        T.EV_EFI_BOOT_SERVICES_APPLICATION,
        image(node(4, 3, QEMU_KERNEL_LOADER_FS.bytes_le), file_node("kernel")),
        2,
        None,
        K.BOOT_APPLICATION,
        "kernel (direct boot)",
        DIGEST_ONLY,
    ),
    (
        T.EV_EFI_BOOT_SERVICES_APPLICATION,
        image(node(4, 3, STUB_PAYLOAD.bytes_le)),
        2,
        None,
        K.BOOT_APPLICATION,
        "kernel (from a UKI)",
        DIGEST_ONLY,
    ),
    (
        T.EV_EFI_BOOT_SERVICES_APPLICATION,
        image(node(1, 1, b"\0\1"), file_node("\\EFI\\a.efi")),
        2,
        None,
        K.BOOT_APPLICATION,
        "boot application \\EFI\\a.efi",
        DIGEST_ONLY,
    ),
    (
        T.EV_EFI_BOOT_SERVICES_APPLICATION,
        struct.pack("<QQQQ", 1, 2, 0, 0),
        2,
        None,
        K.BOOT_APPLICATION,
        "boot application",
        DIGEST_ONLY,
    ),
    (T.EV_EFI_ACTION, b"Exit Boot Services", 2, b"Exit Boot Services", K.EFI_ACTION, "Exit Boot Services", MATCHES),
    (T.EV_EFI_ACTION, b"Exit Boot Services", 2, None, K.EFI_ACTION, "Exit Boot Services", DIFFERS),
    (T.EV_EVENT_TAG, tag(0x8F3B22ED, b"LoadOptions\0"), 3, None, K.COMMAND_LINE, "kernel command line", DIGEST_ONLY),
    (T.EV_EVENT_TAG, tag(0x8F3B22EC, b"Linux initrd\0"), 3, None, K.INITRD, "initrd", DIGEST_ONLY),
    (T.EV_EVENT_TAG, tag(0x4141454C, b"a b c"), 4, tag(0x4141454C, b"a b c"), K.RUNTIME, "a b c", MATCHES),
    (T.EV_EVENT_TAG, tag(0x4141454C, b"a b c"), 4, b"a b c", K.RUNTIME, "a b c", DIFFERS),
    (T.EV_EVENT_TAG, tag(7, b"seven\0"), 3, None, K.OTHER, "EV_EVENT_TAG 0x00000007 seven", DIGEST_ONLY),
    (T.EV_EVENT_TAG, tag(7, b"seven")[:-1], 3, None, K.OTHER, "EV_EVENT_TAG (malformed)", DIGEST_ONLY),
    (T.EV_EFI_GPT_EVENT, GPT, 2, GPT, K.GPT, "partition table, 2 partitions", MATCHES),
    (T.EV_EFI_GPT_EVENT, GPT[:-1], 2, GPT[:-1], K.OTHER, "EV_EFI_GPT_EVENT (malformed)", MATCHES),
    (T.EV_IPL, b"MokList\0", 3, None, K.MOK, "MokList", DIGEST_ONLY),
    (T.EV_IPL, b"grub_cmd set a=b\0p", 3, b"set a=b\0", K.IPL, "GRUB set a=b", MATCHES),
    (T.EV_IPL, b"grub_cmd: set a=b\0", 3, b"set a=b", K.IPL, "GRUB set a=b", MATCHES),
    (T.EV_IPL, b"grub_cmd: set a=b\0", 3, b"set a=c", K.IPL, "GRUB set a=b", DIFFERS),
    (
        T.EV_IPL,
        GRUB_CMDLINE + b"\0\0",
        3,
        GRUB_CMDLINE[20:],
        K.IPL,
        "GRUB command line of (hd0,gpt3)/vmlinuz root=/dev/vda1",
        MATCHES,
    ),
    (T.EV_IPL, b"grub_linuxefi Kernel\0l", 3, None, K.IPL, "grub_linuxefi Kernel", DIGEST_ONLY),
    (T.EV_IPL, ".linux\0".encode("utf-16-le"), 3, b".linux\0", K.IPL, "UKI section name .linux", MATCHES),
    (T.EV_IPL, ".linux\0".encode("utf-16-le"), 3, None, K.IPL, "UKI section .linux", DIGEST_ONLY),
    (T.EV_IPL, "quiet\0".encode("utf-16-le"), 3, "quiet\0".encode("utf-16-le"), K.IPL, "quiet", MATCHES),
    (T.EV_IPL, "quiet\0".encode("utf-16-le"), 3, None, K.IPL, "quiet", DIGEST_ONLY),
    (T.EV_POST_CODE, b"ACPI DATA", 1, None, K.OTHER, "EV_POST_CODE ACPI DATA", DIGEST_ONLY),
    (T.EV_S_CRTM_VERSION, b"1\0", 1, b"1\0", K.OTHER, "EV_S_CRTM_VERSION 1", MATCHES),
]


@pytest.mark.parametrize(("event_type", "data", "mr", "hashed", "found", "label", "check"), EVENTS)
def test_each_event_has_its_kind_its_label_and_its_check(event_type, data, mr, hashed, found, label, check):
    made = event(event_type, data, mr, hashed)
    assert (kind(made), describe(made), check_data(made)) == (found, label, check)


def test_each_kind_is_in_the_table_above_or_tested_below():
    below = {K.SECURE_BOOT_VARIABLE, K.VARIABLE_AUTHORITY}
    assert {row[4] for row in EVENTS} | below == set(EventKind)


@pytest.mark.parametrize(
    ("guid", "name"),
    [(GLOBAL_VARIABLE, name) for name in ("SecureBoot", "PK", "KEK")]
    + [(IMAGE_SECURITY_DATABASE, name) for name in ("db", "dbx")],
)
def test_a_secure_boot_variable_is_hashed_whole(guid, name):
    data = variable(guid, name, b"\1")
    right = event(T.EV_EFI_VARIABLE_DRIVER_CONFIG, data, 1, data)
    assert (kind(right), describe(right), check_data(right)) == (K.SECURE_BOOT_VARIABLE, name, MATCHES)
    assert check_data(event(T.EV_EFI_VARIABLE_DRIVER_CONFIG, data, 1, b"\1")) is DIFFERS
    foreign = event(T.EV_EFI_VARIABLE_DRIVER_CONFIG, variable(SHIM_LOCK, name), 1)
    assert describe(foreign) == f"{name} of {SHIM_LOCK}"
    assert kind(foreign) is K.OTHER, "a variable of another vendor passes for that of Secure Boot"


def test_what_authorised_an_image_is_hashed_whole():
    data = variable(SHIM_LOCK, "SbatLevel", b"sbat,1,2021030218\n")
    made = event(T.EV_EFI_VARIABLE_AUTHORITY, data, 1, data)
    assert (kind(made), describe(made), check_data(made)) == (K.VARIABLE_AUTHORITY, "authority SbatLevel", MATCHES)
    assert check_data(event(T.EV_EFI_VARIABLE_AUTHORITY, data, 1)) is DIFFERS


def test_acpi_events_are_told_apart_by_their_order_and_a_fourth_is_nobodys():
    made = [event(T.EV_PLATFORM_CONFIG_FLAGS, b"ACPI DATA", 1, repeat=n) for n in range(4)]
    assert [kind(e) for e in made] == [K.ACPI_LOADER, K.ACPI_RSDP, K.ACPI_TABLES, K.OTHER]
    assert [describe(e) for e in made[:3]] == ["ACPI loader", "ACPI RSDP", "ACPI tables"]


@pytest.mark.parametrize(("event_type", "data", "mr", "found"), [(r[0], r[1], r[2], r[4]) for r in EVENTS])
def test_an_event_in_a_register_where_nobody_measures_it_has_no_kind(event_type, data, mr, found):
    made = event(event_type, data, 0)
    assert kind(made) is K.OTHER
    if found is not K.OTHER:
        assert describe(made).startswith(f"{event_type.name} out of place in MRTD: ")
    if found is K.COMMAND_LINE:
        assert kind(event(event_type, data, 4)) is K.OTHER, "the guest can say what it likes in RTMR3"


def test_labels_are_short_and_printable():
    made = event(T.EV_IPL, b"grub_cmd a\x1b[2J\r\n" + b"x" * 5000, 3)
    assert describe(made).startswith("GRUB a?[2J??xxx")
    assert len(describe(made)) == LABEL_MAX
    assert describe(made).endswith("\u2026")


def test_a_log_of_large_and_broken_events_is_described_in_no_time():
    start = time.process_time()
    for content in (bytes(2**20), b"a" * 2**20, node(4, 4, b"") * 2**18, "a".encode("utf-16-le") * 2**19 + bytes(2)):
        for event_type in EventType:
            for data in (content, bytes(32) + content, variable(GLOBAL_VARIABLE, "Boot0000", content)):
                made = event(event_type, data, 2)
                kind(made), check_data(made), describe(made)
    assert time.process_time() - start < 0.01 * 4 * 3 * len(EventType)


def test_real_paths_and_variables_are_read_as_another_reader_does(vectors):
    found = vectors("tdx/ccel_parse_only")
    seen = 0
    for name in ("CCEL_data_grub", "CCEL_data_grub_gke", "CCEL_AAEL_alibabacloud", "CCEL_data_ovmf"):
        listed = json.loads(found.bytes(f"{name}_out.json"))["uefi_event_logs"]
        for made in parse_ccel(found.bytes(name)).events:
            told = listed[made.number - 1]["details"]
            files = [path[5:-1] for path in told.get("device_paths", ()) if path.startswith("File(")]
            if files:
                assert uefi.image_load(made.data).path.file == files[0]
                seen += 1
            if "variable_data_length" in told:
                assert uefi.variable(made.data).name == told["unicode_name"]
                assert len(uefi.variable(made.data).data) == told["variable_data_length"]
                seen += 1
    assert seen > 40


def test_every_event_of_a_real_direct_boot_has_the_label_that_an_explanation_shows(vectors):
    log = parse_ccel(vectors("tdx/ccel_direct_boot_live2").bytes("ccel.bin"))
    assert [(kind(e), describe(e)) for e in log.events[8:]] == [
        (K.ACPI_LOADER, "ACPI loader"),
        (K.ACPI_RSDP, "ACPI RSDP"),
        (K.ACPI_TABLES, "ACPI tables"),
        (K.BOOT_APPLICATION, "kernel (direct boot)"),
        (K.BOOT_ORDER, "BootOrder (data only)"),
        (K.BOOT_VARIABLE, "Boot0000 UiApp (data only)"),
        (K.EFI_ACTION, "Calling EFI Application from Boot Option"),
        (K.SEPARATOR, "separator"),
        (K.COMMAND_LINE, "kernel command line"),
        (K.INITRD, "initrd"),
        (K.EFI_ACTION, "Exit Boot Services Invocation"),
        (K.EFI_ACTION, "Exit Boot Services Returned with Success"),
    ]


def test_real_partition_tables_have_their_partitions(vectors):
    found = vectors("tdx/ccel_parse_only")
    tables = [e for e in parse_ccel(found.bytes("CCEL_data_gcp")).events if kind(e) is K.GPT]
    (table,) = (uefi.gpt(e.data) for e in tables)
    assert len(table.partitions) == 3
    assert table.partitions[0][0] == UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")


@pytest.mark.parametrize(
    ("reader", "data"),
    [
        (uefi.variable, variable(GLOBAL_VARIABLE, "PK")[:-1]),
        (uefi.variable, variable(GLOBAL_VARIABLE, "PK") + b"\0"),
        (uefi.variable, GLOBAL_VARIABLE.bytes_le + struct.pack("<QQ", 2**63, 2**63)),
        (uefi.variable, GLOBAL_VARIABLE.bytes_le + struct.pack("<QQ", 1, 0) + b"\0\xd8"),
        (uefi.device_path, node(4, 4, b"a\0")),
        (uefi.device_path, b"\4\4\3\0" + END),
        (uefi.device_path, b"\4\4\0\0" + END),
        (uefi.device_path, END + b"\0"),
        (uefi.device_path, b"\x7f\xff\xff\xff"),
        (uefi.device_path, node(4, 3, bytes(15)) + END),
        (uefi.device_path, node(4, 4, b"odd") + END),
        (uefi.device_path, node(1, 1, b"") * 65 + END),
        (uefi.load_option, option("x" * 2000)),
        (uefi.load_option, b"\0\0\0\0\0"),
        (uefi.load_option, struct.pack("<IH", 1, 4) + b"a\0b\0"),
        (uefi.load_option, option("x")[:-30]),
        (uefi.image_load, image()[:-1]),
        (uefi.image_load, image() + b"\0"),
        (uefi.gpt, GPT[:92] + struct.pack("<Q", 1025) + bytes(128 * 1025)),
        (uefi.gpt, GPT + b"\0"),
        (uefi.gpt, b"XFI PART" + GPT[8:]),
        (uefi.gpt, GPT[:92] + struct.pack("<Q", 2**64 - 1)),
    ],
)
def test_broken_uefi_data_is_malformed(reader, data):
    with pytest.raises(MalformedEvidence):
        reader(data)


def test_a_load_option_has_its_parts():
    found = uefi.load_option(option("UEFI Misc Device"))
    assert (found.attributes, found.description, found.optional_data) == (1, "UEFI Misc Device", b"more")
    assert found.path.file == "\\EFI\\BOOT\\BOOTX64.EFI"


@given(st.sampled_from(list(EventType)), st.binary(max_size=200), st.integers(0, 4), st.integers(0, 3))
def test_any_event_has_a_kind_a_label_and_a_check(event_type, data, mr, repeat):
    for content in (data, b"\x09" + data, variable(GLOBAL_VARIABLE, "Boot0000", data), image()[:32] + data):
        made = event(event_type, content, mr, content, repeat)
        assert isinstance(kind(made), EventKind)
        assert 0 < len(describe(made)) <= LABEL_MAX
        assert describe(made).isprintable()
        assert isinstance(check_data(made), DataCheck)
