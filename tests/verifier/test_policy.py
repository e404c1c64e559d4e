"""The policy file: unknown keys and wrong types are refused everywhere, and the document is the schema's own."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, fields
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dokimos.commands.policy import command, read_policy
from dokimos.endorsements.collateral import TcbStatus
from dokimos.errors import MaterialUnavailable, UsageError
from dokimos.evidence.id_block import encode_key, key_digest
from dokimos.evidence.snp import Product, SigningKey
from dokimos.evidence.tdx import BodyType
from dokimos.evidence.tdx_bits import TdAttributes
from dokimos.verifier.module_versions import BY_NAME
from dokimos.verifier.policy import MAX_SIZE, BindingPolicy, Policy, load_policy
from dokimos.verifier.policy_keys import Version, entries, keys_of
from dokimos.verifier.policy_rules import BitRule, ReservedRule
from dokimos.verifier.snp_policy import FloorRow, FloorRule, GuestPolicyRules, PlatformInfoRules, SnpPolicy
from dokimos.verifier.tdx_policy import (
    AdvisoryRule,
    EventRules,
    Grace,
    SgxType,
    TcbRules,
    TdAttributeRules,
    TdxPolicy,
    XfamRules,
)
from dokimos.verifier.tdx_tcb import Part
from dokimos.verifier.trust import Revocation

TABLES = {
    "": Policy,
    "snp": SnpPolicy,
    "snp.policy": GuestPolicyRules,
    "snp.platform_info": PlatformInfoRules,
    "tdx": TdxPolicy,
    "tdx.events": EventRules,
    "tdx.td_attributes": TdAttributeRules,
    "tdx.xfam": XfamRules,
    "tdx.tcb": TcbRules,
    "binding": BindingPolicy,
}


def snp(line: str) -> str:
    return f"schema = 1\n[snp]\n{line}\n"


def tdx(line: str) -> str:
    return f"schema = 1\n[tdx]\n{line}\n"


def test_the_strict_defaults_of_tdx():
    policy = load_policy("schema = 1").tdx
    assert policy == TdxPolicy()
    assert policy.mrtd == policy.simulated_roots == policy.mrconfigid == policy.mr_servicetd == ()
    bits = {field.name: getattr(policy.td_attributes, field.name) for field in fields(TdAttributeRules)}
    assert {name for name, rule in bits.items() if rule is BitRule.ONE} == {"sept_ve_disable"}
    refused = {"debug", "hgs_plus_prof", "perf_prof", "pmt_prof", "migratable"}
    assert {name for name, rule in bits.items() if rule is BitRule.ZERO} == refused
    assert (policy.xfam.fixed0, policy.xfam.fixed1) == (0x6DBE7, 0x3)
    assert policy.tcb.accepted == (TcbStatus.UP_TO_DATE,)
    assert policy.tcb.grace == ()
    assert load_policy("schema = 1").tdx_trust().simulated_roots == frozenset()


def test_every_key_of_tdx_is_read(full_tdx_policy_text):
    found = load_policy(full_tdx_policy_text).tdx
    assert found.mrseam == (b"\x5e" * 48, BY_NAME["1.5.24"].mrseam)
    assert found.rtmr3 == (bytes(48),)
    assert found.body_types == (BodyType.TD15,)
    assert found.sgx_types == (SgxType.SCALABLE,)
    assert found.tcb.advisories == (AdvisoryRule("INTEL-SA-00001", None),)
    assert found.events.command_line == ("console=ttyS0",)
    text = """schema = 1
    [[tdx.tcb.grace]]
    status = "OutOfDate"
    advisories = ["INTEL-SA-00837", "module:INTEL-SA-00960"]
    maximum_age_days = 90
    """
    rules = (AdvisoryRule("INTEL-SA-00837", None), AdvisoryRule("INTEL-SA-00960", Part.MODULE))
    grace = Grace(status=TcbStatus.OUT_OF_DATE, advisories=rules, maximum_age_days=90)
    assert load_policy(text).tdx.tcb.grace == (grace,)
    assert load_policy(text).effective()["tdx"]["tcb"]["grace"][0]["advisories"] == [str(rule) for rule in rules]  # type: ignore[call-overload]


def test_every_named_bit_of_td_attributes_has_its_key():
    rules = {field.name for field in fields(TdAttributeRules)} - {"fixed0", "fixed1", "unknown"}
    assert rules == set(TdAttributes.names())


def test_the_name_of_a_policy_without_tdx_is_what_it_was_before_there_was_tdx(full_policy_text):
    assert load_policy("schema = 1\n[tdx]\n[tdx.tcb]").id() == load_policy("schema = 1").id()
    names = {
        "schema = 1": "ni:///sha-256;_VndzPCRMhbbYzCSYzJe_L3xCJu7Wh6pPK6XujDVoYQ",
        f'schema = 1\n[snp]\nmeasurements = ["{"11" * 48}"]': "ni:///sha-256;ZuBR-fVyCcKjaVP4IJr605HbXVg_fEZliB5jt8uomDQ",
    }
    assert {text: load_policy(text).id() for text in names} == names


def test_the_id_changes_with_every_key_of_tdx(full_tdx_policy_text):
    full = load_policy(full_tdx_policy_text)
    for item, _ in keys_of(TdxPolicy):
        default = item.default if item.default is not MISSING else item.default_factory()
        if getattr(full.tdx, item.name) != default:
            assert full.with_tdx(**{item.name: default}).id() != full.id(), item.name


def test_the_strict_defaults():
    policy = load_policy("schema = 1")
    assert policy == Policy(schema=1)
    assert policy.snp.policy.debug is BitRule.ZERO
    assert policy.snp.policy.migrate_ma is BitRule.ZERO
    assert policy.snp.signers == (SigningKey.VCEK,)
    assert policy.snp.measurements == policy.snp.simulated_roots == ()
    assert policy.snp.tcb_floor is FloorRule.OFF
    assert policy.snp.permit_provisional_firmware is True
    assert policy.binding.require_nonce is True
    assert policy.trust().simulated_roots == frozenset()
    assert policy.trust().revocation is Revocation.IF_PRESENT


def test_every_key_is_read(full_policy_text):
    found = load_policy(full_policy_text).snp
    assert found.measurements == (b"\x11" * 48,)
    assert found.required_cert_table[1] == UUID("9f4116cd-c503-4f5a-8f6f-fb68882f4ce2")
    assert found.minimum_tcb is not None
    assert found.minimum_tcb.levels() == {"bl": 10, "snp": 23}
    assert found.minimum_version == Version(1, 55)
    assert found.products == (Product.GENOA, Product.TURIN)
    assert found.policy.smt is BitRule.ONE
    assert found.platform_info.reserved is ReservedRule.FAIL
    assert found.current_mit_vector == 0xB
    row = load_policy("schema = 1\n[[snp.floors]]\nfamily = 0x19\nmodel = 1\nucode = 0xdb").snp.floors[0]
    assert row == FloorRow(family=0x19, model=1, ucode=0xDB)
    given_trust = load_policy(snp(f'simulated_roots = ["{"ab" * 32}"]\nrevocation = "require"')).trust()
    assert given_trust.simulated_roots == {b"\xab" * 32}
    assert given_trust.revocation is Revocation.REQUIRE


def test_every_bit_of_the_evidence_has_its_key():
    from dokimos.evidence.snp import GuestPolicy, PlatformInfo  # noqa: PLC0415

    for rules, bits in ((GuestPolicyRules, GuestPolicy), (PlatformInfoRules, PlatformInfo)):
        named = {name for name, value in vars(bits).items() if isinstance(value, property)}
        assert named - {"abi_minor", "abi_major", "reserved_1"} == {field.name for field in fields(rules)}


@pytest.mark.parametrize("path", TABLES)
@pytest.mark.parametrize("name", ["mesurements", "debugg", "x", '"a\\nb"', '""', f'"{"long" * 50}"'])
def test_an_unknown_key_is_refused_at_every_level(path, name):
    header = f"[{path}]\n" if path else ""
    with pytest.raises(UsageError, match="unknown key") as caught:
        load_policy(f"schema = 1\n{header}{name} = 1\n")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize(
    "where", ["minimum_tcb = { microcode = 3 }", "floors = [{ family = 25, model = 1, ucod = 3 }]"]
)
def test_an_unknown_key_is_refused_in_inner_tables(where):
    with pytest.raises(UsageError, match="unknown key"):
        load_policy(snp(where))


def test_a_near_miss_is_named():
    with pytest.raises(UsageError, match="did you mean 'measurements'"):
        load_policy(snp("mesurements = []"))


def _all_keys():
    for path, cls in TABLES.items():
        for item, _ in keys_of(cls):
            yield path, item.name


@pytest.mark.parametrize(("path", "name"), list(_all_keys()))
@pytest.mark.parametrize("value", ["1.5", "1979-05-27", "{ a = 1 }", "[[1]]", '["x", 1]', "-1", '"\\u0000"'])
def test_a_value_of_a_wrong_type_is_refused_for_every_key(path, name, value):
    header = f"[{path}]\n" if path else ""
    first = "" if (path, name) == ("", "schema") else "schema = 1\n"
    with pytest.raises(UsageError, match=rf"^policy: (unknown key ')?{re.escape(f'{path}.{name}' if path else name)}"):
        load_policy(f"{first}{header}{name} = {value}\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "schema = 2",
        'schema = "1"',
        "schema = true",
        "schema = 1\nschema = 1",
        "schema",
        "\x00",
        "schema = 1\nsnp = 1",
        "schema = 1\nsnp = []",
        snp('vmpl = "0"'),
        snp("vmpl = [4]"),
        snp("vmpl = [true]"),
        snp("vmpl = []"),
        snp("signers = []"),
        snp('signers = ["NONE"]'),
        snp('signers = ["vcek"]'),
        snp("products = []"),
        snp('products = ["Bergamo"]'),
        snp('denied_products = ["Milan", "Genoa", "Turin"]'),
        snp('products = ["Milan"]\ndenied_products = ["Milan"]'),
        snp("require_id_block = 1"),
        snp(f'measurements = ["{"11" * 47}"]'),
        snp(f'measurements = ["{"00" * 48}"]'),
        snp(f'measurements = ["0x{"11" * 47}"]'),
        snp(f'measurements = "{"11" * 48}"'),
        snp(f'id_key_digests = ["{"00" * 48}"]'),
        snp(f'chip_ids = ["{"00" * 64}"]'),
        snp(f'chip_ids = ["{"11" * 32}"]'),
        snp(f'chip_ids = ["{"11" * 8}"]\ndenied_chip_ids = ["{"11" * 8}{"00" * 56}"]'),
        snp('csp_ids = ["a"]\ndenied_csp_ids = ["b", "a"]'),
        snp(f'report_data = "{"11" * 32}"'),
        snp('report_data = ""'),
        snp('report_data = "any"'),
        snp('report_data_prefix = ""'),
        snp(f'report_data_prefix = "{"11" * 65}"'),
        snp('report_data_prefix = "123"'),
        snp('report_data = "binding"\nreport_data_prefix = "11"'),
        snp('minimum_version = "1"'),
        snp('minimum_version = "1.256"'),
        snp('minimum_version = "1.٣"'),
        snp("minimum_version = 1.55"),
        snp("minimum_build = 256"),
        snp("minimum_guest_svn = 0x100000000"),
        snp("current_mit_vector = 0x10000000000000000"),
        snp("minimum_tcb = { ucode = 256 }"),
        snp("floors = [{ family = 25 }]"),
        snp("floors = [{ family = 25, model = 1 }]"),
        snp("floors = [{ family = 25, model = 1, stepping = 16, ucode = 1 }]"),
        snp("floors = { family = 25, model = 1, ucode = 1 }"),
        snp('tcb_floor = "latest"'),
        snp('revocation = "REQUIRE"'),
        snp('required_cert_table = ["{63da758d-e664-4564-adc5-f4b93be8accd}"]'),
        snp('id_keys = ["-----BEGIN PUBLIC KEY-----\\nAA==\\n-----END PUBLIC KEY-----"]'),
        snp('policy = { debug = "0" }'),
        snp("policy = { debug = false }"),
        tdx('mrseam = ["1.5.99"]'),
        tdx(f'mrseam = ["{"11" * 47}"]'),
        tdx("mrseam = 1"),
        tdx(f'mrtd = ["{"00" * 48}"]'),
        tdx(f'mrtd = ["{"11" * 32}"]'),
        tdx(f'rtmr0 = "{"11" * 48}"'),
        tdx('body_types = ["SGX"]'),
        tdx("body_types = []"),
        tdx("sgx_types = [0]"),
        tdx('pck_cas = ["root"]'),
        tdx('report_data = "binding"\nreport_data_prefix = "11"'),
        tdx(f'fmspcs = ["{"11" * 6}"]\ndenied_fmspcs = ["{"11" * 6}"]'),
        tdx(f'ppids = ["{"11" * 16}"]\ndenied_ppids = ["{"11" * 16}"]'),
        tdx("xfam = { fixed0 = 1 }"),
        tdx("td_attributes = { fixed0 = 0, fixed1 = 1 }"),
        tdx('td_attributes = { debug = "0" }'),
        tdx(f'events = {{ other = ["{"11" * 48}"] }}'),
        tdx('events = { command_line = [""] }'),
        tdx('tcb = { accepted = ["OutOfDate"] }'),  # only for a while, by grace
        tdx('tcb = { accepted = ["Revoked"] }'),
        tdx('tcb = { accepted = ["NotSupported"] }'),
        tdx("tcb = { accepted = [] }"),
        tdx('tcb = { module = ["ConfigurationNeeded"] }'),
        tdx('tcb = { advisories = ["cpu:INTEL-SA-1"] }'),
        tdx('tcb = { advisories = ["module:"] }'),
        tdx('tcb = { advisories = ["A"], denied_advisories = ["A"] }'),
        tdx('tcb = { grace = [{ status = "OutOfDate" }] }'),
        tdx('tcb = { grace = [{ status = "OutOfDate", advisories = [] }] }'),
        tdx('tcb = { grace = [{ status = "OutOfDate", maximum_age_days = 1 }] }'),
        tdx('tcb = { grace = [{ status = "NotSupported", advisories = [], maximum_age_days = 1 }] }'),
        tdx('tcb = { grace = { status = "OutOfDate" } }'),
        "schema = 1\nname = " + "9" * 5000,
        "schema = 1\nname = " + "[" * 100_000,
        "schema = 1\nname = " + "{a=" * 5000,
        "schema = 1\n" + "a." * 40 + "b = 1",
        "#" * (MAX_SIZE + 1),
    ],
)
def test_a_bad_file_is_a_usage_error(text):
    with pytest.raises(UsageError, match=r"^policy: "):
        load_policy(text)


def test_a_long_dotted_comment_is_no_key():
    assert load_policy("# " + "." * 200 + "\nschema = 1") == Policy(schema=1)


VALUES = st.one_of(
    st.sampled_from(
        [
            "1",
            "true",
            '"any"',
            '"binding"',
            "[]",
            "{}",
            "0x3f",
            "1.5",
            '"1.55"',
            f'["{"11" * 48}"]',
            "[[1]]",
            "2020-01-01",
        ]
    ),
    st.text(max_size=20),
)
LINES = st.one_of(
    st.sampled_from([f"[{path}]" for path in TABLES if path] + ["[[snp.floors]]", "[snp.minimum_tcb]", "schema = 1"]),
    st.tuples(st.sampled_from([name for _, name in _all_keys()]), VALUES).map(" = ".join),
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(LINES, max_size=8).map("\n".join)))
@example("schema = 1\nname = '\ud800'")
@example("\ufeffschema = 1")
def test_any_text_is_a_policy_or_a_usage_error(text):
    try:
        policy = load_policy(text)
    except UsageError:
        return
    assert policy.id().startswith("ni:///sha-256;")
    json.dumps(policy.effective())


def test_the_id_changes_with_every_key_and_not_with_comments(full_policy_text):
    base = load_policy("schema = 1")
    assert base.id() == load_policy("# a comment\nschema = 0x1\n[snp]\nsigners = ['VCEK']").id()
    full = load_policy(full_policy_text)
    assert full.id() != base.id()
    for item, _ in keys_of(SnpPolicy):
        default = item.default if item.default is not MISSING else item.default_factory()
        value = getattr(full.snp, item.name)
        if value != default:
            assert full.with_snp(**{item.name: default}).id() != full.id(), item.name


def test_public_keys_in_pem_become_their_digests():
    key = ec.generate_private_key(ec.SECP384R1())
    numbers = key.public_key().public_numbers()
    digest = key_digest(encode_key(numbers.x, numbers.y))
    bare = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "author")])
    from datetime import UTC, datetime  # noqa: PLC0415

    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2027, 1, 1, tzinfo=UTC))
        .sign(key, SHA384())
        .public_bytes(Encoding.PEM)
        .decode()
    )
    policy = load_policy(snp(f"id_keys = ['''{bare}''']\nauthor_keys = ['''{certificate}''', '''{bare}''']"))
    assert policy.snp.accepted_id_keys() == policy.snp.accepted_author_keys() == (digest,)
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    small = other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    with pytest.raises(UsageError):
        load_policy(snp(f"id_keys = ['''{small}''']"))


# The document

ROW = re.compile(r"^\| `([^`]+)` \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)


def test_the_document_lists_every_key_with_type_meaning_and_absence(checkout):
    listed = ROW.findall((checkout / "docs/policy.md").read_text())
    wanted = [(path, key.kind.name, key.meaning, key.absent) for path, key in entries(Policy)]
    # The levels of a TCB are documented once for all three tables that have them.
    wanted = [row for row in wanted if not row[0].startswith(("snp.minimum_launch_tcb.", "snp.floors[]."))] + [
        row for row in wanted if row[0].startswith("snp.floors[].") and row[0].rsplit(".", 1)[1] in FLOOR_ONLY
    ]
    assert sorted(listed) == sorted(wanted)
    assert all(absent for *_, absent in wanted)


FLOOR_ONLY = {"family", "model", "stepping", "source"}


# The command


def run(*arguments: str, **options):
    return CliRunner().invoke(command, arguments, **options)


def test_init_writes_a_strict_policy_that_loads(tmp_path):
    target = tmp_path / "policy.toml"
    made = run("init", "-o", str(target), "--measurement", "ab" * 48, "--simulated-root", "cd" * 32)
    assert made.exit_code == 0, made.output
    policy = read_policy(str(target))
    assert policy.snp.measurements == (b"\xab" * 48,)
    assert policy.snp.simulated_roots == (b"\xcd" * 32,)
    assert policy.snp.tcb_floor is FloorRule.SHIPPED
    assert policy.snp.revocation is Revocation.REQUIRE
    assert policy.snp.platform_info.alias_check_complete is BitRule.ONE
    assert Product.MILAN not in policy.snp.products
    again = run("init", "-o", str(target))
    assert isinstance(again.exception, UsageError)
    assert read_policy(str(target)) == policy


def test_init_prints_the_template_and_refuses_bad_values():
    assert load_policy(run("init").output).snp.measurements == ()
    assert load_policy(run("init", "--product", "Milan").output).snp.products == (Product.MILAN,)
    tdx = load_policy(run("init", "--tee", "tdx", "--measurement", "ab" * 48, "--simulated-root", "cd" * 32).output).tdx
    assert (tdx.mrtd, tdx.simulated_roots) == ((b"\xab" * 48,), (b"\xcd" * 32,))
    for bad in (
        ["--tee", "tdx", "--product", "Milan"],
        ["--measurement", "zz"],
        ["--product", 'Milan"]\nx = 1'],
        ["--simulated-root", "00" * 32],
        ["--gpus", "1", "--simulated-gpu-root", "00" * 32],
        ["--simulated-gpu-root", "cd" * 32],
    ):
        assert isinstance(run("init", *bad).exception, UsageError)


LOOSEST = {"any", "report", "off", "if-present", "none"}


TDX_SECTIONS = ["tdx", "tdx.events", "tdx.td_attributes", "tdx.xfam", "tdx.tcb"]


@pytest.mark.parametrize("section", ["snp", "snp.policy", "snp.platform_info", "binding", "gpu", *TDX_SECTIONS])
def test_the_template_is_never_looser_than_the_defaults(section):
    tee = "tdx" if section in TDX_SECTIONS else "snp"
    strict: Any = load_policy(run("init", "--tee", tee, "--gpus", "1").output).effective()
    default: Any = Policy(schema=1).effective()
    for part in section.split("."):
        strict, default = strict[part], default[part]
    for name, value in default.items():
        if isinstance(value, bool):
            stricter = name.startswith("require") and strict[name] is True
            looser = name == "permit_provisional_firmware"
            assert stricter or strict[name] is value or value is looser, name
        elif isinstance(value, str) and value not in LOOSEST:
            assert strict[name] == value, name
        elif isinstance(value, list) and value:
            assert set(strict[name]) <= set(value), name


def test_show_and_check(tmp_path, full_policy_text):
    target = tmp_path / "policy.toml"
    target.write_text(full_policy_text)
    policy = load_policy(full_policy_text)
    document = json.loads(run("show", str(target), "--json").stdout)
    assert document == {"id": policy.id(), "policy": policy.effective()}
    shown = run("show", str(target), env={"COLUMNS": "200"}).output
    assert policy.id() in shown
    for path, key in entries(Policy):
        if key.kind.inner is None and "[]" not in path:
            assert path in shown, path
    checked = run("check", str(target))
    assert checked.exit_code == 0
    assert policy.id() in checked.stdout
    assert "warning" not in checked.stderr
    target.write_text("schema = 1")
    assert "rejects every report" in run("check", str(target)).stderr
    target.write_text(f'schema = 1\n[tdx]\nmrtd = ["{"11" * 48}"]')
    assert "warning" not in run("check", str(target)).stderr


def test_an_unreadable_file_is_named(tmp_path):
    assert isinstance(run("check", str(tmp_path / "none")).exception, MaterialUnavailable)
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"schema = 1 # \xe9")
    assert isinstance(run("check", str(latin)).exception, UsageError)
    latin.write_text("schema = 1\n[snp]\ndebug = 0\n")
    assert isinstance(run("check", str(latin)).exception, UsageError)
