"""Lists and answers of the simulated CAs: right for openssl, and each state is what the verifier says of it."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import pairwise

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from dokimos.attest.sim_gpu import BLACKWELL, HOPPER, LS10, SimGpu
from dokimos.attest.sim_gpu_certificate import pem
from dokimos.attest.sim_gpu_pki import NvidiaPki
from dokimos.attest.sim_gpu_revocation import DEVICE_INDEXES, RIM_INDEXES, SimRevocation
from dokimos.attest.sim_nvidia import SimulatedNvidia
from dokimos.attest.sim_rim import SimRim
from dokimos.endorsements.gpu_certificate import parse_gpu_certificate
from dokimos.endorsements.ocsp import ocsp_request
from dokimos.errors import Check, VerificationError
from dokimos.evidence.gpu_arch import Arch
from dokimos.verifier.checklist import Checklist
from dokimos.verifier.gpu_revocation import Checked, RevocationMaterial, check_revocation
from dokimos.verifier.trust import GpuRevocation, GpuTrust

AT = datetime(2026, 7, 1, tzinfo=UTC)
PKI = NvidiaPki(bytes(32))
DEVICES = {"HOPPER": HOPPER, "BLACKWELL": BLACKWELL, "LS10": LS10}
CHAINS = {name: (SimGpu(PKI, firmware, bytes(8)).entities, DEVICE_INDEXES) for name, firmware in DEVICES.items()}
CHAINS["RIM"] = (SimRim.driver(HOPPER).signers(PKI), RIM_INDEXES)
chains = pytest.mark.parametrize(("chain", "indexes"), CHAINS.values(), ids=CHAINS)


@pytest.fixture
def revocation():
    return SimRevocation(PKI, clock=lambda: AT)


def looked_up(chain, indexes, material, mode=GpuRevocation.NONE, *, hold=False, allow_hold=False, at=AT):
    parsed = tuple(parse_gpu_certificate(entity.der, "certificate") for entity in chain)
    trust = GpuTrust(simulated_roots=PKI.root_sha256s, revocation=mode, allow_hold=allow_hold)
    return check_revocation(parsed, indexes, material, trust=trust, hold=hold, at=at, checks=Checklist())


def refused(*arguments, **options):
    with pytest.raises(VerificationError) as caught:
        looked_up(*arguments, **options)
    return caught.value.failed.id


@chains
def test_lists_and_answers_of_good_certificates_satisfy_a_policy_that_demands_both(revocation, chain, indexes):
    material = RevocationMaterial(crls=tuple(revocation.crls().values()), ocsp=revocation.answers(chain, indexes))
    finding = looked_up(chain, indexes, material, GpuRevocation.BOTH)
    assert finding.checked is Checked.BOTH
    assert finding.unchecked == ()
    assert finding.valid_until == AT + timedelta(hours=23)


@chains
def test_a_revoked_certificate_is_refused_whoever_says_so(revocation, chain, indexes):
    for index in indexes:
        one = SimRevocation(PKI, clock=lambda: AT)
        one.revoke(chain[index])
        answers = RevocationMaterial(ocsp=one.answers(chain, indexes))
        assert refused(chain, indexes, answers) is Check.GPU_OCSP_STATUS
    revocation.revoke(chain[-2])
    lists = RevocationMaterial(crls=tuple(revocation.crls().values()))
    assert refused(chain, indexes, lists) is Check.GPU_CRL_REVOKED


def test_a_certificate_on_hold_is_accepted_only_in_a_rims_chain_and_by_the_policy(revocation):
    chain, indexes = CHAINS["RIM"]
    revocation.revoke(chain[0], hold=True)
    revocation.revoke(chain[1], hold=True)
    material = RevocationMaterial(ocsp=revocation.answers(chain, indexes), crls=tuple(revocation.crls().values()))
    assert looked_up(chain, indexes, material, hold=True, allow_hold=True).checked is Checked.BOTH
    for options in ({"hold": True}, {"allow_hold": True}, {}):
        assert refused(chain, indexes, material, **options) is Check.GPU_OCSP_STATUS


@chains
def test_stale_lists_and_answers_are_refused(revocation, chain, indexes):
    old = AT - timedelta(days=61)
    answers = RevocationMaterial(ocsp=revocation.answers(chain, indexes, at=AT - timedelta(hours=25)))
    assert refused(chain, indexes, answers) is Check.GPU_OCSP_STALE
    lists = RevocationMaterial(crls=tuple(revocation.crls(at=old).values()))
    assert refused(chain, indexes, lists) is Check.GPU_CRL_STALE
    early = RevocationMaterial(ocsp=revocation.answers(chain, indexes, at=AT + timedelta(hours=1)))
    assert refused(chain, indexes, early) is Check.GPU_OCSP_NOT_YET_VALID


def test_an_answer_without_a_next_one_holds_for_an_hour(revocation):
    chain, _ = CHAINS["HOPPER"]
    answer = revocation.answer(chain[1], chain[2], at=AT, period=None)
    material = RevocationMaterial(ocsp=(answer,))
    assert looked_up(chain, (1,), material, GpuRevocation.OCSP, at=AT + timedelta(minutes=59)).checked is Checked.OCSP
    assert refused(chain, (1,), material, at=AT + timedelta(minutes=61)) is Check.GPU_OCSP_STALE


def test_a_live_answer_carries_the_nonce_of_its_request(revocation):
    chain, _ = CHAINS["HOPPER"]
    revocation.know(chain)
    nonce = bytes(range(32))
    request = (
        ocsp.OCSPRequestBuilder()
        .add_certificate(chain[1].certificate, chain[2].certificate, hashes.SHA384())
        .add_extension(x509.OCSPNonce(nonce), critical=True)
        .build()
        .public_bytes(Encoding.DER)
    )
    answer = revocation.respond(request)
    live = RevocationMaterial(ocsp=(answer,), live_nonces={sha256(answer).digest(): nonce})
    assert looked_up(chain, (1,), live, GpuRevocation.OCSP).checked is Checked.OCSP
    other = RevocationMaterial(ocsp=(answer,), live_nonces={sha256(answer).digest(): bytes(32)})
    assert refused(chain, (1,), other) is Check.GPU_OCSP_NONCE
    stored = revocation.answer(chain[1], chain[2])
    without = RevocationMaterial(ocsp=(stored,), live_nonces={sha256(stored).digest(): nonce})
    assert refused(chain, (1,), without) is Check.GPU_OCSP_NONCE


def test_it_answers_a_request_as_the_verifier_writes_it(revocation):
    chain, _ = CHAINS["BLACKWELL"]
    revocation.know(chain)
    for certificate, issuer in pairwise(chain[1:]):
        parsed = parse_gpu_certificate(issuer.der, "issuer")
        request = ocsp_request(
            issuer=issuer.name.public_bytes(),
            key=b"\4" + parsed.public_point,
            serial=certificate.certificate.serial_number,
            nonce=bytes(32),
        )
        found = ocsp.load_der_ocsp_response(revocation.respond(request))
        assert found.certificate_status is ocsp.OCSPCertStatus.GOOD
        assert found.serial_number == certificate.certificate.serial_number


def test_a_certificate_that_it_does_not_know_gets_no_answer(revocation):
    chain, _ = CHAINS["HOPPER"]
    request = ocsp.OCSPRequestBuilder().add_certificate(chain[1].certificate, chain[2].certificate, hashes.SHA1())
    asked = request.build().public_bytes(Encoding.DER)
    status = ocsp.load_der_ocsp_response(revocation.respond(asked)).response_status
    assert status is ocsp.OCSPResponseStatus.UNAUTHORIZED
    revocation.know(chain)
    assert ocsp.load_der_ocsp_response(revocation.respond(asked)).certificate_status is ocsp.OCSPCertStatus.GOOD
    status = ocsp.load_der_ocsp_response(revocation.respond(b"no request")).response_status
    assert status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


def test_a_responder_that_may_not_answer_or_is_another_cas_is_refused(revocation):
    chain, _ = CHAINS["HOPPER"]
    for responder in (
        PKI.responder(chain[2], may_sign=False, label="no usage"),
        PKI.responder(chain[3]),
        NvidiaPki(b"\1" * 32).responder(NvidiaPki(b"\1" * 32).provisioner(Arch.HOPPER)),
    ):
        answer = revocation.answer(chain[1], chain[2], responder=responder)
        assert refused(chain, (1,), RevocationMaterial(ocsp=(answer,))) is Check.GPU_OCSP_RESPONDER


@chains
def test_openssl_takes_lists_and_answers(revocation, chain, indexes, tmp_path, loud_skip):
    if shutil.which("openssl") is None:
        loud_skip("openssl is not installed: lists and answers NOT compared with it", "simulated revocation")

    def run(*command):
        ran = subprocess.run(["openssl", *command], cwd=tmp_path, capture_output=True, check=False, text=True)
        return ran.returncode, ran.stdout + ran.stderr

    (tmp_path / "root.pem").write_bytes(pem(chain[-1].der))
    (tmp_path / "cas.pem").write_bytes(pem(*(entity.der for entity in chain[1:])))
    (tmp_path / "list.crl").write_bytes(revocation.crl(chain[-1], [chain[-2]]))
    code, said = run("crl", "-inform", "DER", "-in", "list.crl", "-CAfile", "root.pem", "-noout")
    assert (code, said.strip()) == (0, "verify OK")
    moment = str(int(AT.timestamp()))
    revocation.revoke(chain[indexes[0]])
    for index in indexes:
        (tmp_path / "certificate.pem").write_bytes(pem(chain[index].der))
        (tmp_path / "issuer.pem").write_bytes(pem(chain[index + 1].der))
        (tmp_path / "answer.ocsp").write_bytes(revocation.answer(chain[index], chain[index + 1]))
        code, said = run(
            "ocsp",
            "-respin",
            "answer.ocsp",
            "-issuer",
            "issuer.pem",
            "-sha384",
            "-cert",
            "certificate.pem",
            "-CAfile",
            "root.pem",
            "-verify_other",
            "cas.pem",
            "-no_nonce",
            "-attime",
            moment,
            "-partial_chain",
            "-validity_period",
            str(10**10),
        )
        assert code == 0, said
        assert "Response verify OK" in said
        assert f"certificate.pem: {'revoked' if index == indexes[0] else 'good'}" in said


def test_the_material_of_a_machine_fits_into_a_bundle(tmp_path):
    platform = SimulatedNvidia(tmp_path)
    part = platform.source(platform.hgx().devices).collect(bytes(32))
    assert (len(part.devices), len(part.rims), len(part.crls)) == (12, 3, 4)
    assert len(part.ocsp) == len(set(part.ocsp)) == 12 + 2 + 1 + 2 * 3
