"""The simulated TDX platform writes what Intel's does byte for byte; only a policy that names it believes it."""

from __future__ import annotations

import runpy
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509

from dokimos.attest.sim_quote import QuoteFields, TdFields, td_body
from dokimos.attest.sim_tdx import SimulatedTdx, TdxHierarchy
from dokimos.attest.sim_tdx_pki import PckFields, TdxAuthority
from dokimos.endorsements.p256 import parse_ca_p256
from dokimos.endorsements.pck import PckCa, parse_pck
from dokimos.errors import Check, MaterialUnavailable, UsageError, VerificationError
from dokimos.evidence.tdx import BodyType, CertificationType, parse_quote
from dokimos.verifier.tdx import verify_tdx
from dokimos.verifier.trust import TdxTrust

AT = datetime(2026, 3, 1, tzinfo=UTC)
REGISTERS = tuple(bytes((n,)) * 48 for n in range(4))


@pytest.fixture
def platform(tmp_path):
    return SimulatedTdx(tmp_path / "state", clock=lambda: AT)


@pytest.fixture
def td(platform):
    return platform.launch(b"\7" * 48, REGISTERS)


def trust(platform):
    return TdxTrust(simulated_roots=frozenset({platform.root_sha256}))


@pytest.mark.parametrize("svn2", [None, bytes((6, 1, 6, *[0] * 13))], ids=["TD10", "TD15"])
def test_a_quote_says_what_the_td_is_and_verifies_under_the_simulated_root(platform, td, svn2):
    td.fields = replace(td.fields, tee_tcb_svn2=svn2)
    quote = td.quote(b"\1" * 64)
    parsed = parse_quote(quote)
    assert (parsed.body.mrtd, parsed.body.rtmrs, parsed.body.report_data) == (b"\7" * 48, REGISTERS, b"\1" * 64)
    assert parsed.body_type is (BodyType.TD10 if svn2 is None else BodyType.TD15)
    verified = verify_tdx(quote, td.collateral(), trust=trust(platform), at=AT)
    assert str(verified.verdict.converged) == "UpToDate"
    assert verified.collateral.root.simulated


def test_a_policy_that_does_not_name_the_root_refuses_it(td):
    with pytest.raises(VerificationError) as caught:
        verify_tdx(td.quote(bytes(64)), td.collateral(), trust=TdxTrust(), at=AT)
    assert caught.value.failed.id is Check.TDX_ROOT_PINNED


@pytest.mark.parametrize(("version", "svn2"), [(4, None), (5, None), (5, bytes((6, 1, 6, *[0] * 13)))])
def test_dcap_qvl_takes_its_quotes_and_collateral(platform, td, version, svn2):
    pytest.importorskip("dcap_qvl")
    peer = runpy.run_path(str(Path(__file__).parents[1] / "generate/tdx_peer.py"))["peer_verdict"]
    td.fields = replace(td.fields, tee_tcb_svn2=svn2)
    made = platform.hierarchy
    quote = made.quote(QuoteFields(td=td.fields, version=version, certification=(5, made.pck_chain)))
    assert peer(quote, td.collateral(), made.root, int(AT.timestamp())) == ("UpToDate", [])


def test_the_root_stays_the_same_and_another_folder_has_another(tmp_path):
    first, again, other = (SimulatedTdx(tmp_path / name) for name in ("a", "a", "b"))
    assert first.root_sha256 == again.root_sha256 == sha256(first.hierarchy.root).digest()
    assert first.root_sha256 != other.root_sha256
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
    secret = tmp_path / "a/TDX/platform.secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    secret.write_bytes(b"short")
    with pytest.raises(MaterialUnavailable, match="damaged"):
        _ = SimulatedTdx(tmp_path / "a").root_sha256


def test_every_name_says_simulated(platform):
    made = platform.hierarchy
    ders = [made.pck, *(made.certificate(authority) for authority in TdxAuthority)]
    for der in ders:
        names = x509.load_der_x509_certificate(der)
        for name in (names.subject, names.issuer):
            assert "SIMULATED" in name.rfc4514_string()


@pytest.mark.parametrize("instance", [None, bytes(range(16))])
def test_the_platforms_certificate_reads_back_as_it_was_written(instance):
    wanted = PckFields(platform_instance_id=instance, components=(255, *range(15)), pcesvn=300, fmspc=b"\1" * 6)
    made = TdxHierarchy(bytes(32), wanted)
    pck = parse_pck(made.pck)
    assert (pck.components, pck.pcesvn, pck.fmspc, pck.ppid) == (wanted.components, 300, b"\1" * 6, wanted.ppid)
    assert pck.ca is (PckCa.PROCESSOR if instance is None else PckCa.PLATFORM)
    assert pck.platform_instance_id == instance
    flags = (None, None, None) if instance is None else wanted.configuration
    assert (pck.dynamic_platform, pck.cached_keys, pck.smt) == flags


def test_real_certificates_have_the_same_extensions_in_the_same_roles(vectors, platform):
    chain = parse_quote(vectors("tdx/tdx_v4_uptodate_b0c0").bytes("quote.bin")).certification
    assert chain.type == CertificationType.PCK_CHAIN
    real = x509.load_pem_x509_certificates(chain.data.rstrip(b"\0"))
    made = platform.hierarchy
    ours = [made.pck, made.certificate(TdxAuthority.PLATFORM_CA), made.root]
    for theirs, der in zip(real, ours, strict=True):
        certificate = x509.load_der_x509_certificate(der)
        needed = {(e.oid.dotted_string, e.critical) for e in theirs.extensions}
        # Where the real one names the address of a list, a simulated platform has none to name.
        needed -= {("2.5.29.31", False)}
        assert needed <= {(e.oid.dotted_string, e.critical) for e in certificate.extensions}
    assert [parse_ca_p256(der).path_length for der in ours[1:]] == [0, 1]


def test_values_of_another_size_are_refused(platform, td):
    with pytest.raises(UsageError):
        platform.launch(bytes(47), REGISTERS)
    with pytest.raises(UsageError):
        td.quote(bytes(63))
    with pytest.raises(UsageError):
        td_body(TdFields(mrconfigid=bytes(47)))
