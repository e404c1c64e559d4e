"""``dokimos verify gpu``: verdict, exit code, one document; simulated machines and real sets."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import NamedTuple

import pytest

from dokimos import cli
from dokimos.attest.sim_gpu import DRIVER, MPT, VBIOS
from dokimos.attest.sim_rim import SimRim
from dokimos.errors import Check, ExitCode
from dokimos.evidence.gpu_evidence import encode_gpu_evidence, parse_gpu_evidence
from tests.endorsements import fake_nras as nras
from tests.generate import gpu_faults as faults
from tests.generate.gpu_machines import (
    EVERY,
    NONCE,
    OTHER,
    ROOTS,
    STATE,
    Machine,
    Revoked,
    changed,
    device,
    hgx,
    machine,
    revocation,
)

AT = ["--at", "2026-07-01T12:00:00Z"]
ROOTED = f'schema = 1\n[gpu]\nsimulated_roots = ["{ROOTS[0].hex()}", "{ROOTS[1].hex()}"]\n'


class Ran(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict:
        """Standard output as one JSON document."""
        return json.loads(self.out)


@pytest.fixture
def run(monkeypatch, capsys):
    """The command in this process, as the console script starts it."""

    def start(*arguments, data=b""):
        monkeypatch.setattr(sys, "argv", ["dokimos", "verify", "gpu", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(data)))
        monkeypatch.setenv("COLUMNS", "160")
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Ran(ended.value.code, *capsys.readouterr())

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield start
    for number, handler in handlers.items():
        signal.signal(number, handler)


class Files(NamedTuple):
    """A machine as files, with the options that it needs."""

    evidence: Path
    folder: Path
    policy: Path

    @property
    def options(self) -> list[object]:
        return [self.evidence, "--rim", self.folder, "--policy", self.policy, *AT, "--nonce", NONCE.hex()]


def write(path: Path, made: Machine, *, revoked: Revoked | None = None) -> Files:
    """Write a machine's evidence and all that a verifier needs of it."""
    (path / "material").mkdir(parents=True)
    crls, answers = revocation(made, revoked or Revoked())
    for name, data in {**made.rims, **crls, **answers}.items():
        (path / "material" / name.replace("/", "-")).write_bytes(data)
    (path / "evidence.json").write_bytes(encode_gpu_evidence(made.evidence))
    (path / "policy.toml").write_text(ROOTED)
    return Files(path / "evidence.json", path / "material", path / "policy.toml")


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return write(tmp_path_factory.mktemp("one"), machine())


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return write(tmp_path_factory.mktemp("many"), hgx())


def failed(document):
    return [(check["id"], check.get("subject")) for check in document["checks"] if check["status"] == "fail"]


def test_a_machine_is_accepted_and_its_document_is_the_only_output(run, one, many):
    for files, names in (
        (one, ["GPU-0"]),
        (many, [*(f"GPU-{n}" for n in range(8)), *(f"SWITCH-{n}" for n in range(4))]),
    ):
        ran = run(*files.options, "--json")
        assert (ran.code, ran.err) == (ExitCode.ACCEPTED, "")
        made = ran.document
        assert set(made) == {"schema", "verdict", "at", "simulated", "evidence", "checks"}
        assert (made["schema"], made["verdict"], made["simulated"]) == ("dokimos.result/v1", "accepted", True)
        assert [one_device["subject"] for one_device in made["evidence"]["devices"]] == names
        assert {one_device["endorsement"]["revocation"]["checked"] for one_device in made["evidence"]["devices"]} == {
            "both"
        }


def test_what_the_guest_says_comes_from_a_file_and_is_demanded_only_by_policy(run, one, tmp_path):
    demanding = tmp_path / "demanding.toml"
    demanding.write_text(f"{ROOTED}require_guest_state = true\n")
    options = [demanding if option == one.policy else option for option in one.options]
    assert failed(run(*options, "--json").document)[0] == ("gpu.guest.cc", None)
    said = tmp_path / "state.json"
    said.write_bytes(STATE.to_json())
    ran = run(*options, "--guest-state", said, "--json")
    assert ran.code == ExitCode.ACCEPTED
    assert ran.document["evidence"]["guest"]["devtools"] == {
        "value": False,
        "established": "asserted by the measured guest",
    }
    said.write_bytes(replace(STATE, devtools=True).to_json())
    ran = run(*one.options, "--guest-state", said, "--json")
    assert (ran.code, failed(ran.document)) == (ExitCode.REJECTED, [("gpu.guest.devtools", None)])
    said.write_text("{}")
    assert run(*options, "--guest-state", said).code == ExitCode.MALFORMED


def test_a_real_process_does_the_same(one, run):
    command = [sys.executable, "-m", "dokimos", "verify", "gpu", *map(str, one.options), "--json"]
    ran = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.stdout.decode() == run(*one.options, "--json").out


def test_every_check_stands_in_the_document_once_for_each_device_with_all_material(run, many, one):
    ids = {check["id"] for check in run(*many.options, "--json").document["checks"]}
    ids |= {check["id"] for check in run(*one.options, "--json").document["checks"]}
    missing = {str(check) for check in Check if check.startswith("gpu.")} - ids
    assert missing == set()


@pytest.mark.parametrize(
    ("build", "check"),
    [
        (lambda: machine(measurements={9: OTHER * 48}), ("gpu.measurements", "GPU-0")),
        (lambda: hgx(faults.drop_link), ("gpu.topology", None)),
        (lambda: hgx(faults.other_gpu), ("gpu.topology", None)),
        (lambda: machine(rims=changed(VBIOS, version="96.00.74.00.1B")), ("gpu.rim.version", "GPU-0")),
        (faults.same_report, ("gpu.devices.distinct", None)),
    ],
)
def test_what_is_genuine_but_not_right_is_rejected_with_its_reason(run, tmp_path, build, check):
    files = write(tmp_path, build())
    ran = run(*files.options, "--json")
    assert (ran.code, ran.document["verdict"]) == (ExitCode.REJECTED, "rejected")
    assert failed(ran.document) == [check]
    ran = run(*files.options)
    assert (ran.code, "REJECTED" in ran.out, check[0] in ran.out) == (ExitCode.REJECTED, True, True)


def test_what_is_not_genuine_is_rejected_and_what_can_be_read_of_it_is_shown(run, one, tmp_path):
    (device_evidence,) = parse_gpu_evidence(one.evidence.read_bytes())
    broken = replace(device_evidence, report=device_evidence.report[:-1] + b"\0")
    (tmp_path / "evidence.json").write_bytes(encode_gpu_evidence([broken]))
    ran = run(tmp_path / "evidence.json", *one.options[1:], "--json")
    made = ran.document
    assert (ran.code, failed(made)) == (ExitCode.REJECTED, [("gpu.report.signature", "GPU-0")])
    assert made["evidence"]["devices"][0]["nonce"] == NONCE.hex()
    assert "endorsement" not in made["evidence"]["devices"][0]
    assert run(tmp_path / "evidence.json", *one.options[1:]).code == ExitCode.REJECTED
    # Without a policy that names the simulated roots.
    plain = [part for part in one.options if part not in {"--policy", one.policy}]
    assert failed(run(*plain, "--json").document) == [("gpu.root.pinned", "GPU-0")]


def test_a_revoked_device_is_rejected(run, tmp_path):
    files = write(tmp_path, machine(), revoked=Revoked(device=(1,)))
    ran = run(*files.options, "--json")
    assert (ran.code, failed(ran.document)) == (ExitCode.REJECTED, [("gpu.ocsp.status", "GPU-0")])


def test_a_missing_rim_is_named_and_worth_a_retry(run, one, tmp_path):
    options = [one.evidence, "--policy", one.policy, *AT, "--nonce", NONCE.hex()]
    ran = run(*options, "--json")
    assert (ran.code, ran.document["error"]) == (ExitCode.UNAVAILABLE, "unavailable")
    for rim_id in EVERY.rim_ids.values():
        assert rim_id in ran.document["message"]
        assert rim_id in ran.err
    (tmp_path / "driver.xml").write_bytes((one.folder / f"{EVERY.rim_ids[DRIVER]}.xml").read_bytes())
    ran = run(*options, "--rim", tmp_path, "--json")
    assert ran.code == ExitCode.UNAVAILABLE
    assert [rim_id in ran.document["message"] for rim_id in EVERY.rim_ids.values()] == [False, True]


def test_rims_come_from_files_and_folders_of_any_names(run, one, tmp_path):
    for n, rim_id in enumerate(EVERY.rim_ids.values()):
        (tmp_path / f"{n}").mkdir()
        (tmp_path / f"{n}/rim.swidtag").write_bytes((one.folder / f"{rim_id}.xml").read_bytes())
    # Another issue of the same name in a third folder, and what is no RIM.
    (tmp_path / "again").mkdir()
    (tmp_path / "again/rim.swidtag").write_bytes(next(iter(machine(rims=_reissued()).rims.values())))
    (tmp_path / "again/README.md").write_text("notes")
    (tmp_path / "again/notes.txt").write_text("notes")
    base = [one.evidence, "--policy", one.policy, *AT, "--nonce", NONCE.hex()]
    folders = ["--rim", tmp_path / "again", "--rim", tmp_path / "0", "--rim", tmp_path / "1"]
    assert run(*base, *folders).code == ExitCode.ACCEPTED
    assert (
        run(*base, "--rim", tmp_path / "0/rim.swidtag", "--rim", tmp_path / "1/rim.swidtag").code == ExitCode.ACCEPTED
    )
    assert run(*base, "--rim", tmp_path / "none").code == ExitCode.UNAVAILABLE


def _reissued():
    again = SimRim.of(EVERY, VBIOS).reissue(9)
    return changed(VBIOS, references=again.references, issue=again.issue)


def test_a_report_with_its_chain_does_as_well_as_an_evidence_file(run, one, tmp_path):
    (device_evidence,) = parse_gpu_evidence(one.evidence.read_bytes())
    (tmp_path / "report.bin").write_bytes(device_evidence.report)
    (tmp_path / "report.hex").write_text(device_evidence.report.hex() + "\n")
    (tmp_path / "chain.pem").write_bytes(device_evidence.chain)
    wanted = run(*one.options, "--json").out
    for name in ("report.bin", "report.hex"):
        given = ["--report", tmp_path / name, "--chain", tmp_path / "chain.pem"]
        assert run(*given, *one.options[1:], "--json").out == wanted
    assert run("-", *one.options[1:], "--json", data=one.evidence.read_bytes()).out == wanted


def test_authentic_only_needs_no_rim_and_looks_at_how_devices_fit_together(run, many, tmp_path):
    base = ["--policy", many.policy, *AT, "--authentic-only"]
    ran = run(many.evidence, *base, "--json")
    assert (ran.code, failed(ran.document)) == (ExitCode.ACCEPTED, [])
    assert {one_device["measurements"] for one_device in ran.document["evidence"]["devices"]} == {None}
    assert failed(run(many.evidence, *base, "--nonce", "00" * 32, "--json").document)[0] == ("gpu.nonce", "GPU-0")
    devices = parse_gpu_evidence(many.evidence.read_bytes())
    (tmp_path / "fewer.json").write_bytes(encode_gpu_evidence(devices[1:]))
    ran = run(tmp_path / "fewer.json", *base, "--json")
    assert (ran.code, failed(ran.document)) == (ExitCode.REJECTED, [("gpu.topology", None)])


def test_what_a_terminal_shows_of_one_device(run, one):
    text = run(*one.options).out
    for part in (
        "gpu.report.signature",
        "GPU-0",
        "ACCEPTED",
        "SIMULATED",
        "revocation checked",
        "64 match"[3:],
        "580.95.05",
    ):
        assert part in text
    for part in ("spt (0)", "signed by the device", "derived from the comparison with RIMs", "Claims of GPU-0"):
        assert part in text
    assert "gpu.serial.allowed" not in text
    assert "Measurements of GPU-0" not in text
    full = run(*one.options, "-v").out
    for part in ("gpu.serial.allowed", "Measurements of GPU-0", "NVDEC0 is disabled (0x55)"):
        assert part in full


def test_several_devices_share_rows_unless_all_is_asked_for(run, many):
    text, full = (run(*many.options, *more).out for more in ([], ["-v"]))
    (row,) = [line for line in text.splitlines() if "gpu.report.signature" in line]
    assert "GPU-0 and 11 more" in row
    assert sum("gpu.report.signature" in line for line in full.splitlines()) == 12
    assert "more" not in "".join(line for line in full.splitlines() if "gpu.report.signature" in line)
    for name in ("GPU-7", "SWITCH-3"):
        assert name in text
        assert f"Measurements of {name}" in full


def test_a_failure_has_its_own_row_beside_the_devices_that_pass(run, tmp_path):
    files = write(tmp_path, hgx(lambda made: made.gpus[3].measure(21, b"unknown")))
    text = run(*files.options).out
    rows = [line for line in text.splitlines() if "gpu.measurements " in line]
    assert len(rows) == 2
    assert any("GPU-0 and 10 more" in row and "pass" in row for row in rows)
    assert any("GPU-3" in row and "fail" in row for row in rows)


def test_ear_has_a_submodule_for_each_device_and_excludes_json(run, many):
    ran = run(*many.options, "--ear")
    assert (ran.code, ran.err) == (0, "")
    submods = ran.document["submods"]
    assert list(submods) == [*(f"gpu{n}" for n in range(8)), *(f"switch{n}" for n in range(4))]
    assert {submod["ear_status"] for submod in submods.values()} == {"contraindicated"}  # they are simulated
    assert run(*many.options, "--ear", "--json").code == ExitCode.USAGE


def test_a_token_takes_the_place_of_rims_where_the_policy_accepts_it(run, one, tmp_path):
    (device_evidence,) = parse_gpu_evidence(one.evidence.read_bytes())
    serial = device().entities[0].certificate.serial_number
    (tmp_path / "answer.json").write_bytes(nras.answer([str(serial)]))
    (tmp_path / "keys.json").write_bytes(nras.key_set())
    (tmp_path / "policy.toml").write_text(
        f'{ROOTED}[gpu.nras]\naccept = true\nsigner_spki_sha256 = ["{nras.pin().hex()}"]\n'
    )
    token = [one.evidence, *AT, "--nonce", device_evidence.nonce.hex(), "--nras", tmp_path / "answer.json"]
    keys = ["--nras-keys", tmp_path / "keys.json"]
    ran = run(*token, *keys, "--policy", tmp_path / "policy.toml", "--json")
    assert (ran.code, failed(ran.document)) == (ExitCode.ACCEPTED, [])
    assert run(*token, "--policy", tmp_path / "policy.toml").code == ExitCode.UNAVAILABLE
    assert run(*token, *keys, "--policy", one.policy).code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--nonce", "00"], ExitCode.MALFORMED),
        (["--nonce", "zz" * 32], ExitCode.MALFORMED),
        (["--at", "yesterday"], ExitCode.USAGE),
        (["--policy", "no-such-file"], ExitCode.UNAVAILABLE),
        (["--crl", "no-such-file"], ExitCode.UNAVAILABLE),
        (["--ocsp", "no-such-file"], ExitCode.UNAVAILABLE),
        (["--report", "report.bin"], ExitCode.USAGE),
        (["--chain", "chain.pem"], ExitCode.USAGE),
        (["--rim-url", "http://127.0.0.1:9"], ExitCode.USAGE),
        (["--no-such-option"], ExitCode.USAGE),
    ],
)
def test_wrong_options_end_with_their_own_exit_code(run, one, arguments, code):
    ran = run(*one.options, *arguments)
    assert ran.code == code
    assert ran.err
    assert "Traceback" not in ran.err


def test_no_evidence_at_all_is_a_usage_error(run):
    assert run().code == ExitCode.USAGE
    assert run("--report", "report.bin").code == ExitCode.USAGE


def test_malformed_files_are_told_apart_from_unknown_devices(run, one, tmp_path):
    (entry,) = json.loads(one.evidence.read_bytes())
    cases = {
        "nothing": (b"", ExitCode.MALFORMED, None),
        "object": (b"{}", ExitCode.MALFORMED, None),
        "empty": (b"[]", ExitCode.MALFORMED, None),
        "other": (json.dumps([entry | {"arch": "VOLTA"}]).encode(), ExitCode.UNSUPPORTED, "gpu.evidence.arch"),
        "nonce": (json.dumps([entry | {"nonce": "00"}]).encode(), ExitCode.MALFORMED, "gpu.evidence.nonce"),
        "report": (json.dumps([entry | {"evidence": "AAAA"}]).encode(), ExitCode.MALFORMED, "gpu.report.format"),
        "chain": (json.dumps([entry | {"certificate": "AAAA"}]).encode(), ExitCode.MALFORMED, "gpu.chain.format"),
    }
    for name, (data, code, check) in cases.items():
        (tmp_path / name).write_bytes(data)
        ran = run(tmp_path / name, *one.options[1:], "--json")
        assert (ran.code, ran.document["schema"], ran.document["check"]) == (code, "dokimos.error/v1", check), name
    assert run(tmp_path / "none", *one.options[1:]).code == ExitCode.UNAVAILABLE
    (tmp_path / "chain.pem").write_bytes(parse_gpu_evidence(one.evidence.read_bytes())[0].chain)
    (tmp_path / "report.txt").write_text("no hex")
    given = ["--report", tmp_path / "report.txt", "--chain", tmp_path / "chain.pem"]
    assert run(*given, *one.options[1:]).code == ExitCode.MALFORMED
    (tmp_path / "huge").write_bytes(bytes(1 << 22))
    assert run(tmp_path / "huge", *one.options[1:]).code == ExitCode.MALFORMED


def test_several_gpus_without_switches_are_one_machine(run, tmp_path):
    made = machine(*(device(EVERY, n, feature_flag=MPT) for n in range(2)))
    files = write(tmp_path, made)
    assert run(*files.options).code == ExitCode.ACCEPTED
    files.policy.write_text(f"{ROOTED}gpus = 4\n")
    assert failed(run(*files.options, "--json").document) == [("gpu.devices.count", None)]


def test_real_sets_get_the_verdict_of_their_manifests(run, vectors, tmp_path):
    for name, driver in (("hopper-545.00-full-positive", "driver"), ("nvswitch-ls10-full-positive", "bios")):
        found = vectors(f"nvidia/{name}")
        expected = found.manifest["expected"]
        rims = [part for file in found.names if "rim" in file for part in ("--rim", found.path(file))]
        base = ["--report", found.path("report.hex"), "--chain", found.path("chain.pem"), *rims]
        nonce = ["--nonce", expected["nonce"]]
        ran = run(*base, *nonce, "--at", expected["at"], "--json")
        assert (ran.code, ran.document["simulated"]) == (ExitCode.ACCEPTED, False)
        assert driver in ran.document["evidence"]["devices"][0]["endorsement"]["rims"]
        late = next(case for case in expected["cases"] if case["reason"] == "rim-signer-expired")
        ran = run(*base, *nonce, "--at", late["at"], "--json")
        assert (ran.code, failed(ran.document)[0][0]) == (ExitCode.REJECTED, "gpu.rim.expired")
        assert failed(run(*base, "--at", expected["at"], "--json").document) == [
            ("gpu.nonce", "GPU-0" if driver == "driver" else "SWITCH-0")
        ]
    found = vectors("nvidia/blackwell-575.32")
    given = ["--report", found.path("report.hex"), "--chain", found.path("chain.pem"), "--at", "2026-07-01"]
    ran = run(*given, "--json")
    assert (ran.code, ran.document["error"]) == (ExitCode.UNAVAILABLE, "unavailable")
    assert all(rim_id in ran.err for rim_id in found.manifest["expected"]["rim_ids"].values())
    assert run(*given, "--authentic-only").code == ExitCode.ACCEPTED
    found = vectors("nvidia/hopper-580.95.05-trailing-byte")
    ran = run("--report", found.path("report.hex"), "--chain", found.path("chain.pem"), "--authentic-only", "--json")
    assert (ran.code, ran.document["check"]) == (ExitCode.MALFORMED, "gpu.report.format")


def test_twelve_real_devices_of_two_files_are_one_machine(run, vectors, tmp_path):
    found = vectors("nvidia/ppcie-hgx-8gpu-4switch")
    listed = [json.loads(found.bytes(name)) for name in ("gpu_evidence.json", "switch_evidence.json")]
    (tmp_path / "all.json").write_text(json.dumps(listed[0] + listed[1]))
    ran = run(tmp_path / "all.json", "--authentic-only", "--nonce", found.manifest["expected"]["nonce"])
    assert ran.code == ExitCode.ACCEPTED
    assert "ppcie (2)" in ran.out
    assert run(found.path("gpu_evidence.json"), "--authentic-only").code == ExitCode.REJECTED
