"""The simulated platform: keys made once and kept private, and evidence that the verifier takes byte for byte."""

from __future__ import annotations

import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime

import pytest
from pyasn1.codec.der import decoder, encoder

from dokimos.attest.simulator import SimulatedPlatform, default_state_dir
from dokimos.endorsements import ca, pss
from dokimos.endorsements.vek import parse_vek
from dokimos.errors import Check, MaterialUnavailable, UsageError, VerificationError
from dokimos.evidence.cert_table import ARK, ASK, CRL, VCEK, VLEK, parse_cert_table
from dokimos.evidence.snp import SigningKey, Tcb
from dokimos.verifier.snp import verify_snp
from dokimos.verifier.snp_endorsements import SnpEndorsements
from dokimos.verifier.trust import Revocation, SnpTrust

_MEASUREMENT = bytes(range(48))


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return tmp_path_factory.mktemp("state") / "sim"


def _verify(platform, report, endorsements, product=None):
    trust = SnpTrust(simulated_roots=frozenset({platform.root_sha256}), revocation=Revocation.REQUIRE)
    vek, cas, crls = endorsements
    return verify_snp(
        report, SnpEndorsements(vek=vek, cas=cas, crls=crls), trust=trust, at=datetime.now(UTC), product=product
    )


@pytest.mark.parametrize("version", [2, 3, 4, 5])
@pytest.mark.parametrize("product", ["Milan", "Genoa", "Bergamo", "Turin"])
def test_every_product_and_version_verifies_under_its_root_and_under_no_other(state, product, version):
    platform = SimulatedPlatform(state, product=product, version=version)
    guest = platform.launch(_MEASUREMENT, host_data=bytes([7]) * 32)
    quote = guest.report(bytes([9]) * 64, vmpl=1)
    named = platform.machine.product if version == 2 else None
    verified = _verify(platform, quote.report, guest.endorsements(), named)
    report = verified.report
    assert verified.simulated
    assert verified.chip_bound
    assert verified.product is platform.machine.product
    assert (report.version, report.vmpl, report.measurement) == (version, 1, _MEASUREMENT)
    assert (report.report_data, report.host_data) == (bytes([9]) * 64, bytes([7]) * 32)
    assert report.reserved == ()
    vek, cas, crls = guest.endorsements()
    with pytest.raises(VerificationError) as caught:
        verify_snp(quote.report, SnpEndorsements(vek=vek, cas=cas, crls=crls), trust=SnpTrust(), at=datetime.now(UTC))
    assert caught.value.failed.id is Check.SNP_CA_PINNED


@pytest.mark.parametrize("product", ["Milan", "Turin"])
def test_a_vlek_names_a_provider_and_binds_to_no_chip(state, product):
    platform = SimulatedPlatform(state, product=product, signing_key=SigningKey.VLEK)
    guest = platform.launch(_MEASUREMENT)
    verified = _verify(platform, guest.report(bytes(64)).report, guest.endorsements())
    assert verified.signer is SigningKey.VLEK
    assert not verified.chip_bound
    assert verified.vek.csp_id
    assert verified.vek.hwid is None
    assert parse_cert_table(guest.report(bytes(64)).cert_table or b"").keys() == {VLEK, ASK, ARK, CRL}


def test_a_masked_chip_id_binds_to_no_chip(state):
    platform = SimulatedPlatform(state, product="Genoa", mask_chip_id=True)
    guest = platform.launch(_MEASUREMENT)
    assert not _verify(platform, guest.report(bytes(64)).report, guest.endorsements()).chip_bound


def test_the_certificate_table_is_the_endorsements(state):
    guest = SimulatedPlatform(state, product="Genoa").launch(_MEASUREMENT)
    table = parse_cert_table(guest.report(bytes(64)).cert_table or b"")
    vek, cas, crls = guest.endorsements()
    assert table == {VCEK: vek, ASK: cas[0], ARK: cas[1], CRL: crls[0]}


@pytest.mark.parametrize("product", ["Milan", "Turin"])
def test_certificates_have_the_encodings_of_the_real_ones(state, product):
    platform = SimulatedPlatform(state, product=product)
    vek, (ask, ark), (crl,) = platform.launch(_MEASUREMENT).endorsements()
    leaf = parse_vek(vek)
    assert leaf.signature_algorithm in pss.ALGORITHM_IDENTIFIERS
    assert leaf.struct_version == (1 if product == "Turin" else 0)
    assert len(leaf.hwid or b"") == (8 if product == "Turin" else 64)
    assert leaf.tcb == Tcb.from_bytes(platform.machine.tcb.to_bytes(), platform.machine.product)
    certificate, rest = decoder.decode(vek)
    assert rest == b""
    assert int(certificate[0][1]) == 0  # the serial number
    assert encoder.encode(certificate) == vek
    root, issuer = ca.parse_ca(ark), ca.parse_ca(ask)
    assert pss.verifies(root.public_key, issuer.signature, issuer.tbs)
    assert pss.verifies(issuer.public_key, leaf.signature, leaf.tbs)
    assert root.subject_cn.startswith("SIMULATED-")
    assert issuer.subject_cn.startswith("SIMULATED-")
    assert (issuer.path_length, issuer.crl_sign, root.crl_sign) == (0, False, True)
    revocation = ca.parse_crl(crl)
    assert pss.verifies(root.public_key, revocation.signature, revocation.tbs)


def test_keys_are_kept_in_files_that_only_their_owner_reads(state):
    SimulatedPlatform(state, product="Genoa").launch(_MEASUREMENT).endorsements()
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    for path in state.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_the_same_folder_gives_the_same_root_and_chip(state):
    one, two = SimulatedPlatform(state, product="Genoa"), SimulatedPlatform(state, product="Genoa")
    assert (one.root_sha256, one.chip_id) == (two.root_sha256, two.chip_id)
    assert SimulatedPlatform(state, product="Milan").root_sha256 != one.root_sha256


def test_processes_and_threads_that_start_at_once_share_one_root(tmp_path):
    code = (
        "import sys; from pathlib import Path; from dokimos.attest.simulator import SimulatedPlatform;"
        "print(SimulatedPlatform(Path(sys.argv[1])).root_sha256.hex())"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(SimulatedPlatform(tmp_path).root_sha256.hex())) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found += [process.communicate(timeout=60)[0].strip() for process in processes]
    assert len(found) == 4
    assert len(set(found)) == 1


def test_damaged_state_is_a_clear_error(tmp_path, state):
    folder = tmp_path / "Milan"
    folder.mkdir()
    (folder / "ark.pem").write_bytes(b"damaged")
    (folder / "ARK.pem").write_bytes(b"damaged")
    with pytest.raises(MaterialUnavailable, match="damaged"):
        _ = SimulatedPlatform(tmp_path).root_sha256
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MaterialUnavailable):
        _ = SimulatedPlatform(tmp_path / "file").root_sha256


def test_what_it_cannot_play_is_a_usage_error(state):
    for options in ({"product": "Venice"}, {"version": 1}, {"version": 6}, {"signing_key": SigningKey.NONE}):
        with pytest.raises(UsageError):
            SimulatedPlatform(state, **options)
    guest = SimulatedPlatform(state, product="Genoa").launch(_MEASUREMENT)
    for arguments in ((bytes(63),), (bytes(65),)):
        with pytest.raises(UsageError):
            guest.report(*arguments)
    with pytest.raises(UsageError):
        guest.report(bytes(64), vmpl=4)
    with pytest.raises(UsageError):
        SimulatedPlatform(state, product="Genoa").launch(bytes(47))


def test_the_state_folder_is_the_users_and_a_relative_one_is_ignored(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_state_dir() == tmp_path / "dokimos" / "sim"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert default_state_dir().is_absolute()
