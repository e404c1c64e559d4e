"""A RIM's authenticity: the real ones as their manifests say, one forgery for each check, and an independent oracle."""

from __future__ import annotations

import base64
import runpy
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from dokimos.endorsements.nvidia_anchors import RIM_ROOT_SHA256
from dokimos.errors import Check, MalformedEvidence, Status, VerificationError
from dokimos.verifier.checklist import Checklist
from dokimos.verifier.gpu_rim import VerifiedRim, verify_rim
from dokimos.verifier.trust import GpuTrust

G = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "generate/rim.py")))
TRUST = GpuTrust(simulated_roots=frozenset({G.ROOT_SHA256}))
SECOND = timedelta(seconds=1)
STRANGER = G.Link("TEST stranger (SIMULATED)", 200)


def verify(data, at=G.AT, trust=TRUST):
    checks = Checklist(subject="GPU-0")
    return verify_rim(data, trust=trust, at=at, checks=checks), checks.done()


def outcome(data, at=G.AT, trust=TRUST):
    """The check that failed, or None."""
    try:
        verify(data, at, trust)
    except VerificationError as exc:
        return exc.failed.id
    except MalformedEvidence as exc:
        return exc.check
    return None


def links(**changed):
    """A chain in which some certificates are other ones, by the names signer, l3, ca and root."""
    fields = {"signer": G.SIGNER, "l3": G.L3, "ca": G.CA, "root": G.ROOT, **changed}
    return tuple(fields.values())


def with_signature(change):
    def alter(root):
        value = root.find(f".//{{{G.DS}}}SignatureValue")
        value.text = base64.b64encode(change(base64.b64decode(value.text))).decode()

    return alter


def broken_links():
    """Chains whose every certificate is signed, with one wrong thing each."""
    signer, l3, ca, root = links()
    yield "a signer that is a CA", links(signer=replace(signer, is_ca=True, usage="digital_signature"))
    yield "a signer that may not sign data", links(signer=replace(signer, usage="content_commitment"))
    yield "an L3 that is no CA", links(l3=replace(l3, is_ca=False, path_length=None))
    yield "an L3 that may not sign certificates", links(l3=replace(l3, usage="crl_sign"))
    yield "a CA below which there may be none", links(ca=replace(ca, path_length=0))
    yield "a signer below a signer", (replace(STRANGER, is_ca=False, usage="digital_signature"), *links())
    yield "one certificate", (replace(root, is_ca=False, usage="digital_signature"),)


def forged_links():
    """Certificates as they stand in a file, whose links do not hold."""
    signer, l3, ca, root = G.chain()
    yield "another CA's name", (signer, G.certificate(G.L3, STRANGER, signed_by=G.CA.key), ca, root)
    yield "another CA's key", (signer, G.certificate(G.L3, G.CA, signed_by=STRANGER.key), ca, root)
    yield "a signer by another L3", (G.certificate(G.SIGNER, G.L3, signed_by=STRANGER.key), l3, ca, root)
    yield "a CA that the root did not sign", (signer, l3, G.certificate(G.CA, G.ROOT, signed_by=STRANGER.key), root)
    yield "a missing certificate", (signer, ca, root)
    yield "an order from the root down", (signer, ca, l3, root)
    yield "the root twice", (signer, l3, ca, signer, root)


OTHER_ROOT = (*links()[:3], replace(STRANGER, name=G.ROOT.name))
FORGERIES = {
    Check.GPU_RIM_FORMAT: G.rim().replace(b'active="True"', b'active="true"', 1),
    Check.GPU_RIM_SIGNATURE_FORM: G.rim(references=("#x",)),
    Check.GPU_RIM_DIGEST: G.rim().replace(b"07" * 48, b"08" * 48),
    Check.GPU_RIM_ROOT_PINNED: G.rim(links=OTHER_ROOT),
    Check.GPU_RIM_CHAIN: G.rim(links=links(l3=replace(G.L3, is_ca=False, path_length=None))),
    Check.GPU_RIM_NOT_YET_VALID: G.rim(links=links(l3=replace(G.L3, not_before=G.AT + SECOND))),
    Check.GPU_RIM_EXPIRED: G.rim(links=links(ca=replace(G.CA, not_after=G.AT - SECOND))),
    Check.GPU_RIM_SIGNER: G.rim(key=G.L3.key),
    Check.GPU_RIM_SIGNATURE: G.rim(key=STRANGER.key),
}


@pytest.mark.parametrize("check", FORGERIES)
def test_each_check_refuses_what_only_it_can_notice(check):
    assert outcome(FORGERIES[check]) is check


def test_every_check_of_a_rim_has_its_forgery(checkout):
    table = (checkout / "docs/checks.md").read_text().partition("### A RIM by itself")[2].partition("###")[0]
    assert [check for check in FORGERIES if f"`{check}`" not in table] == []
    assert table.count("| `gpu.rim.") == len(FORGERIES)


def test_a_genuine_rim_passes_every_check_in_order():
    found, checks = verify(G.rim())
    assert list(dict.fromkeys(result.id for result in checks)) == list(FORGERIES)
    assert {(result.status, result.subject) for result in checks} == {(Status.PASS, "GPU-0")}
    assert (found.simulated, found.root_sha256) == (True, G.ROOT_SHA256)
    assert [certificate.raw for certificate in found.chain] == list(G.chain())
    assert len(found.windows) == 4


@pytest.mark.parametrize(
    ("name", "chain"), list(broken_links()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_chain_with_a_wrong_role_is_refused(name, chain):
    trust = GpuTrust(simulated_roots=frozenset({G.x509_sha256(chain)}))
    assert outcome(G.rim(links=chain), trust=trust) is Check.GPU_RIM_CHAIN, name


@pytest.mark.parametrize(
    ("name", "chain"), list(forged_links()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_chain_whose_links_do_not_hold_is_refused(name, chain):
    assert outcome(G.rim(certificates=chain)) is Check.GPU_RIM_CHAIN, name


def test_a_signer_that_is_not_the_first_certificate_is_refused():
    signer, l3, ca, root = G.chain()
    second = (G.certificate(replace(G.SIGNER, key=105), G.L3), signer, l3, ca, root)
    assert outcome(G.rim(certificates=second)) is Check.GPU_RIM_CHAIN
    other = (G.certificate(replace(G.SIGNER, key=105), G.L3), l3, ca, root)
    assert outcome(G.rim(certificates=other)) is Check.GPU_RIM_SIGNATURE
    for key in (G.L3.key, G.CA.key, G.ROOT.key):
        assert outcome(G.rim(key=key)) is Check.GPU_RIM_SIGNER


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw[48:] + raw[:48],
        lambda raw: bytes(96),
        lambda raw: raw[:95] + bytes([raw[95] ^ 1]),
        lambda raw: b"\xff" * 96,
        lambda raw: raw[:48] + bytes(48),
    ],
)
def test_a_signature_that_is_not_over_this_is_refused(change):
    assert outcome(G.rim(after=with_signature(change))) is Check.GPU_RIM_SIGNATURE


def test_a_signature_of_another_rim_is_refused_with_its_digest():
    other = G.rim(G.Spec(version="550.90.12"))
    start, end = b"<ds:Signature ", b"</ds:Signature>"
    genuine, foreign = G.rim(), other[other.index(start) : other.index(end)]
    moved = genuine[: genuine.index(start)] + foreign + genuine[genuine.index(end) :]
    assert outcome(moved) is Check.GPU_RIM_DIGEST


def test_a_signed_digest_that_was_replaced_is_refused():
    def replaced(root):
        value = root.find(f".//{{{G.DS}}}SignatureValue").text
        root.findall(f".//{{{G.SWID}}}Resource")[1].set("active", "False")
        G.sign_again(root)
        root.find(f".//{{{G.DS}}}SignatureValue").text = value

    assert outcome(G.rim(after=replaced)) is Check.GPU_RIM_SIGNATURE


@pytest.mark.parametrize("garbage", [b"x", G.chain()[0][:-1], G.chain()[0] + b"\0", b"\x30\x00"])
def test_a_certificate_that_cannot_be_read_is_refused(garbage):
    assert outcome(G.rim(certificates=(*G.chain()[:2], garbage, G.chain()[3]))) is Check.GPU_RIM_CHAIN


def test_the_ends_of_validity_are_still_valid_and_each_side_has_its_own_check():
    data = G.rim()
    assert outcome(data, G.EARLY) is outcome(data, G.LATE) is None
    assert outcome(data, G.EARLY - SECOND) is Check.GPU_RIM_NOT_YET_VALID
    assert outcome(data, G.LATE + SECOND) is Check.GPU_RIM_EXPIRED
    with pytest.raises(VerificationError, match=r"L4 Signer.*has expired"):
        verify(data, G.LATE + SECOND)


def test_what_is_kept_of_a_rim_is_neither_its_time_nor_its_root():
    data = G.rim()
    verify(data)
    assert outcome(data, G.LATE + SECOND) is Check.GPU_RIM_EXPIRED
    assert outcome(data, trust=GpuTrust()) is Check.GPU_RIM_ROOT_PINNED
    assert verify(data)[0].rim is verify(data)[0].rim


def test_a_root_of_nvidia_is_never_a_simulated_one(vectors):
    data = vectors("nvidia/rim-negative").bytes("NV_GPU_DRIVER_GH100_550.144.03.xml")
    at = datetime(2026, 6, 1, tzinfo=UTC)
    found, _ = verify(data, at, GpuTrust(simulated_roots=frozenset({RIM_ROOT_SHA256})))
    assert not found.simulated
    assert found.root_sha256 == RIM_ROOT_SHA256


def test_only_verification_makes_a_verified_rim():
    found, _ = verify(G.rim())
    with pytest.raises(TypeError):
        VerifiedRim(
            rim=found.rim,
            chain=found.chain,
            windows=found.windows,
            simulated=False,
            root_sha256=found.root_sha256,
            token=None,
        )


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        verify(G.rim(), datetime(2026, 7, 1))


REASONS = {
    "ok": None,
    "rim-signer-expired": Check.GPU_RIM_EXPIRED,
    "rim-signer-not-yet-valid": Check.GPU_RIM_NOT_YET_VALID,
    "rim-digest-mismatch": Check.GPU_RIM_DIGEST,
    "rim-signature-invalid": Check.GPU_RIM_SIGNATURE,
    "rim-chain-invalid": Check.GPU_RIM_ROOT_PINNED,
}


@pytest.mark.parametrize("name", ["rim-negative", "rim-vbios-hopper-24", "rim-vbios-trustee"])
def test_real_rims_are_judged_as_their_manifest_says(vectors, name):
    found = vectors(f"nvidia/{name}")
    expected = found.manifest["expected"]
    cases = [case for case in expected["cases"] if "root" not in case.get("files", {})]
    if expected["verdict"] != "per-case":
        cases.append(expected)
    for case in cases:
        names = [case["files"]["rim"]] if "files" in case else list(expected["rims"])
        for file in names:
            data = found.bytes(file)
            data = base64.b64decode(data) if file.endswith(".b64") else data
            assert outcome(data, datetime.fromisoformat(case["at"]), GpuTrust()) is REASONS[case["reason"]], file


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("hopper-545.00-full-positive", ["ok", "rim-signer-expired"]),
        ("nvswitch-ls10-full-positive", ["ok", "rim-signer-not-yet-valid", "rim-signer-expired"]),
        ("hopper-550.90.07-vs-wrong-rims", ["ok"]),
    ],
)
def test_real_rims_of_a_report_are_valid_when_their_manifest_says(vectors, name, reasons):
    found = vectors(f"nvidia/{name}")
    expected = found.manifest["expected"]
    times = {case["reason"]: case["at"] for case in expected["cases"]} | {"ok": expected["at"]}
    for file, rim in expected["rims"].items():
        for reason in reasons:
            at = datetime.fromisoformat(times[reason])
            assert outcome(found.bytes(file), at, GpuTrust()) is REASONS[reason], file
        window = {key: datetime.fromisoformat(value) for key, value in rim["valid_window"].items()}
        assert outcome(found.bytes(file), window["not_before"], GpuTrust()) is None
        assert outcome(found.bytes(file), window["not_after"], GpuTrust()) is None
        assert outcome(found.bytes(file), window["not_before"] - SECOND, GpuTrust()) is Check.GPU_RIM_NOT_YET_VALID
        assert outcome(found.bytes(file), window["not_after"] + SECOND, GpuTrust()) is Check.GPU_RIM_EXPIRED


def test_the_real_tampered_rim_is_refused_by_its_digest_and_its_two_neighbours_are_genuine(vectors):
    found = vectors("nvidia/hopper-535.86.09")
    at = datetime(2025, 6, 1, tzinfo=UTC)
    assert outcome(found.bytes("driver_rim_tampered.xml"), at, GpuTrust()) is Check.GPU_RIM_DIGEST
    for name in ("vbios_rim_reissued_2023-12.xml", "vbios_rim_original_2023-06.xml"):
        assert outcome(found.bytes(name), at, GpuTrust()) is None


@pytest.fixture
def oracle(loud_skip, tmp_path):
    """Whether xmlsec1 accepts a RIM under a root at a time."""
    tool = shutil.which("xmlsec1")
    if tool is None:
        loud_skip("xmlsec1 is not installed: no second opinion on signatures of RIMs", "test_gpu_rim")

    def accepts(data, root, at):
        (tmp_path / "rim.xml").write_bytes(data)
        (tmp_path / "root.pem").write_bytes(x509.load_der_x509_certificate(root).public_bytes(Encoding.PEM))
        time = ["--verification-gmt-time", f"{at:%Y-%m-%d %H:%M:%S}"]
        command = [tool, "--verify", *time, "--trusted-pem", str(tmp_path / "root.pem"), str(tmp_path / "rim.xml")]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    return accepts


def comment(root):
    root.insert(0, G.etree.Comment("not signed"))


def text_behind(root):
    root.find(f"{{{G.DS}}}Signature").tail = "\n  text \u00e9 &amp;\r\n"
    G.sign_again(root)


AGREED = {
    "genuine": {},
    "a comment": {"after": comment},
    "text behind the signature": {"after": text_behind},
    "an instruction": {"before": lambda root: root.insert(0, G.etree.ProcessingInstruction("a", "b"))},
    "an attribute to be escaped": {"before": lambda root: root[0].set("note", 'a"b<c&d\te\nf\u00e9')},
    "another key": {"key": STRANGER.key},
    "another digest": {"after": lambda root: root[1].set("edition", "X")},
    "another root": {"links": OTHER_ROOT},
}


@pytest.mark.parametrize("name", AGREED)
def test_an_independent_verifier_of_xml_signatures_agrees(oracle, name):
    data = G.rim(**AGREED[name])
    assert oracle(data, G.chain()[3], G.AT) is (outcome(data) is None)


def test_an_independent_verifier_agrees_on_every_real_rim(oracle, vectors):
    collection = vectors("nvidia/rim-vbios-hopper-24")
    data = {name: (collection.bytes(name), "2024-06-01") for name in collection.names}
    for name, at in (("rim-negative", "2026-06-01"), ("nvswitch-ls10-full-positive", "2026-07-01")):
        found = vectors(f"nvidia/{name}")
        data |= {file: (found.bytes(file), at) for file in found.manifest["expected"]["rims"]}
    found = vectors("nvidia/hopper-535.86.09")
    data |= {file: (found.bytes(file), "2025-06-01") for file in found.manifest["expected"]["rims"]}
    genuine, _ = verify(data["bios_rim.xml"][0], datetime(2026, 7, 1, tzinfo=UTC), GpuTrust())
    for file, (rim, day) in data.items():
        time = datetime.fromisoformat(f"{day}T00:00:00Z")
        assert oracle(rim, genuine.chain[-1].raw, time) is (outcome(rim, time, GpuTrust()) is None), file
    assert len(data) == 33
