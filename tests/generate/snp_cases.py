"""The cases behind ``tests/vectors/snp``: what is good, and every "valid signature, wrong meaning" that we know of.

The ids of failed checks are ours (``docs/checks.md``); the list of things that go wrong comes from the defects of other
verifiers as much as from the ABI.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from types import ModuleType
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

from dokimos.attest.sim_pki import Authority, Extension, pss_algorithm
from dokimos.attest.sim_report import MACHINES
from dokimos.evidence.snp import Product, SigningKey, Tcb

MILAN, GENOA, TURIN = Product.MILAN, Product.GENOA, Product.TURIN
ARK, ASK, ASVK = Authority.ARK, Authority.ASK, Authority.ASVK
VLEK = SigningKey.VLEK
TRAILER = bytes.fromhex("a303020101")


def _trailer_algorithm() -> bytes:
    """The usual AlgorithmIdentifier with trailerField 1 written out, as in some of AMD's leaves."""
    plain = pss_algorithm()
    grown = bytearray(plain + TRAILER)
    grown[1] += len(TRAILER)
    grown[grown.index(b"\x30\x34\xa0\x0f") + 1] += len(TRAILER)
    return bytes(grown)


def accepted(g: ModuleType) -> list[Any]:
    case = g.Case
    plain = [
        case(
            name=f"{machine.lower()}-v{version}",
            description=f"An ordinary report of version {version} from a {machine}.",
            machine=machine,
            version=version,
            product=str(MACHINES[machine].product) if version == 2 else None,
        )
        for machine, versions in {"Milan": (2, 3, 4), "Genoa": (2, 3, 5), "Bergamo": (3, 5), "Turin": (3, 5)}.items()
        for version in versions
    ]
    raw_02 = b"\x02\x01" + bytes(range(62))
    raw_04 = b"\x04\x40" + bytes(range(62))
    return [
        *plain,
        case(
            name="milan-v5-crl",
            description="An ordinary report of version 5 with the CRL that the policy demands.",
            version=5,
            crl=g.crl(MILAN),
            revocation="require",
        ),
        case(
            name="v2-product-from-certificate",
            description="Version 2 names no processor, nor does the caller: the certificate's productName does.",
            version=2,
        ),
        case(
            name="vlek-milan",
            description="Signed by a VLEK below the ASVK; the chip id is zero.",
            signing_key=VLEK,
            crl=g.crl(MILAN),
            revocation="require",
        ),
        case(
            name="vlek-turin", description="A VLEK with structVersion 1.", machine="Turin", version=5, signing_key=VLEK
        ),
        case(
            name="masked-chip-id",
            description="The owner masked the chip id: genuine, but bound to no chip.",
            report={"chip_id": bytes(64)},
        ),
        case(name="hwid-in-der", description="hwID written as an OCTET STRING, as in newer leaves.", hwid_in_der=True),
        case(
            name="hwid-in-der-turin",
            description="hwID of 8 bytes written as an OCTET STRING.",
            machine="Turin",
            hwid_in_der=True,
        ),
        case(name="hwid-raw-02", description="A bare chip id that begins like a DER INTEGER.", hwid=raw_02),
        case(name="hwid-raw-04", description="A bare chip id that begins like an OCTET STRING.", hwid=raw_04),
        case(
            name="hwid-raw-04-turin",
            description="A bare chip id of 8 bytes that begins like an OCTET STRING.",
            machine="Turin",
            hwid=bytes.fromhex("0408060504030201"),
        ),
        case(
            name="hwid-04-in-der",
            description="An OCTET STRING around a chip id that begins like one.",
            hwid=raw_04,
            hwid_in_der=True,
        ),
        case(
            name="reserved-bits-set",
            description="Reserved bytes at 0x208, reserved platform_info and policy bits: fatal by policy only.",
            report={"platform_info": 1 << 63 | 0x65, "policy": 1 << 40 | 0x30000, "patches": ((0x208, b"\x01"),)},
        ),
        case(
            name="reported-below-current",
            description="REPORTED_TCB below CURRENT and COMMITTED: ordinary after an update of the firmware.",
            report={"reported_tcb": bytes.fromhex("04000000000018d9")},
        ),
        case(
            name="trailer-field",
            description="trailerField 1 written out in the leaf's AlgorithmIdentifier, as AMD does.",
            vek={"algorithm": _trailer_algorithm()},
        ),
        case(
            name="crl-revokes-another",
            description="The CRL revokes serials, but not the one of this CA.",
            crl=g.crl(MILAN, revoked=(0x10005, ASVK.serial(MILAN))),
            revocation="require",
        ),
        case(
            name="crl-stale-off",
            description="A stale CRL that the policy does not look at.",
            crl=g.crl(MILAN, days=30),
            revocation="off",
        ),
        case(
            name="host-requested",
            description="VMPL 0xFFFFFFFF: the host asked for the report. Genuine; the policy decides on the VMPL.",
            report={"vmpl": 0xFFFFFFFF},
        ),
    ]


def broken_chain(g: ModuleType) -> list[Any]:
    case = g.Case
    chain = ("snp.ca.chain",)
    ask_serial = g.issuer(MILAN, ASK)
    milan = {"ark": g.ca(MILAN, ARK), "ask": g.ca(MILAN, ASK)}
    attacker = g.ca_key(GENOA, ASK)
    ask_signer = g.signer(g.ca_key(MILAN, ARK))
    return [
        case(
            name="forged-root",
            description="A whole chain with the right names under an attacker's root.",
            failed=("snp.ca.pinned",),
            issuer=g.issuer(MILAN, ASK, key=attacker),
            cas={"ark": g.ca(MILAN, ARK, GENOA), "ask": g.ca(MILAN, ASK, GENOA)},
        ),
        case(
            name="root-missing",
            description="The root's hash is in the policy, but its certificate did not come.",
            failed=("snp.ca.pinned",),
            cas={"ask": milan["ask"]},
        ),
        case(
            name="forged-issuer",
            description="The true root, and a signing CA of the right name that it did not sign.",
            failed=chain,
            issuer=g.issuer(MILAN, ASK, key=attacker),
            cas={"ark": milan["ark"], "ask": g.ca(MILAN, ASK, GENOA)},
        ),
        case(
            name="forged-leaf",
            description="The true chain, and a leaf of the right names that its CA did not sign.",
            failed=("snp.vek.signature",),
            issuer=g.issuer(MILAN, ASK, key=attacker),
        ),
        case(
            name="leaf-signed-by-root",
            description="The root itself signed the leaf and is named as its issuer.",
            failed=("snp.vek.issuer",),
            issuer=g.issuer(MILAN, ARK),
        ),
        case(
            name="cross-product-chain",
            description="A Milan's report with a chain of Genoa's, whose root the policy names.",
            failed=chain,
            issuer=g.issuer(GENOA, ASK),
            cas={"ark": g.ca(GENOA, ARK), "ask": g.ca(GENOA, ASK)},
            simulated_root=g.ca(GENOA, ARK),
        ),
        case(
            name="cross-product-issuer",
            description="The true root of Milan signed a CA that calls itself Genoa's.",
            failed=chain,
            issuer=g.issuer(GENOA, ASK, key=g.ca_key(MILAN, ASK)),
            cas={"ark": milan["ark"], "ask": g.ca(GENOA, ASK, MILAN)},
        ),
        case(
            name="v2-wrong-product-named",
            description="The caller says Genoa; report and chain are Milan's.",
            version=2,
            product="Genoa",
            failed=chain,
        ),
        case(
            name="ask-for-asvk",
            description="A VLEK issued by the ASK, with no ASVK given.",
            failed=chain,
            signing_key=VLEK,
            issuer=ask_serial,
            cas=milan,
        ),
        case(
            name="ask-beside-asvk",
            description="A VLEK issued by the ASK; the ASVK is there as well.",
            failed=("snp.vek.issuer",),
            signing_key=VLEK,
            issuer=ask_serial,
            cas=milan | {"asvk": g.ca(MILAN, ASVK)},
        ),
        case(
            name="ask-signs-as-asvk",
            description="A VLEK that names the ASVK as issuer, but is signed by the ASK.",
            failed=("snp.vek.signature",),
            signing_key=VLEK,
            issuer=g.issuer(MILAN, ASVK, key=g.ca_key(MILAN, ASK)),
        ),
        case(
            name="asvk-for-ask",
            description="A VCEK issued by the ASVK; the ASK is there as well.",
            failed=("snp.vek.issuer",),
            issuer=g.issuer(MILAN, ASVK),
            cas=milan | {"asvk": g.ca(MILAN, ASVK)},
        ),
        case(
            name="issuer-pss-sha256",
            description="The signing CA's certificate is signed with SHA-256 in PSS.",
            failed=chain,
            cas=milan | {"ask": _issuer_sha256(g, milan["ask"])},
        ),
        case(
            name="issuer-pss-mislabelled",
            description="The signing CA's signature is as it should be, but its AlgorithmIdentifier says SHA-256.",
            failed=chain,
            cas=milan | {"ask": g.resign(milan["ask"], ask_signer, algorithm=pss_algorithm(1, 48))},
        ),
        case(
            name="issuer-names-another-root",
            description="The root signed the signing CA, which names another one as its issuer.",
            failed=chain,
            cas=milan
            | {"ask": g.resign(milan["ask"], ask_signer, swap=(b"SIMULATED-ARK-Milan", b"SIMULATED-ARK-Nilam"))},
        ),
        case(
            name="root-of-another-product",
            description="Genoa's root, which the policy names, signed a CA that calls itself Milan's.",
            failed=chain,
            simulated_root=g.ca(GENOA, ARK),
            cas={
                "ark": g.ca(GENOA, ARK),
                "ask": g.resign(
                    g.ca(GENOA, ASK),
                    g.signer(g.ca_key(GENOA, ARK)),
                    swap=(b"SIMULATED-SEV-Genoa", b"SIMULATED-SEV-Milan"),
                ),
            },
        ),
        case(
            name="issuer-path-length-1",
            description="The signing CA may have another CA below it.",
            failed=chain,
            cas=milan
            | {
                "ask": g.resign(
                    milan["ask"],
                    ask_signer,
                    swap=(bytes.fromhex("30060101ff020100"), bytes.fromhex("30060101ff020101")),
                )
            },
        ),
        case(
            name="issuer-may-not-sign",
            description="The signing CA's key usage allows digitalSignature only.",
            failed=chain,
            cas=milan
            | {"ask": g.resign(milan["ask"], ask_signer, swap=(bytes.fromhex("03020204"), bytes.fromhex("03020780")))},
        ),
        case(
            name="ca-expired",
            description="Leaf and root hold, the signing CA has expired.",
            failed=("snp.ca.validity",),
            cas=milan | {"ask": g.ca(MILAN, ASK, not_after=datetime(2026, 6, 30, tzinfo=g.AT.tzinfo))},
        ),
    ]


def _issuer_sha256(g: ModuleType, ask: bytes) -> bytes:
    sign = g.signer(g.ca_key(MILAN, ARK), "sha256", 48)
    return bytes(g.resign(ask, sign, algorithm=pss_algorithm(1, 48)))


def broken_leaf(g: ModuleType) -> list[Any]:
    case = g.Case
    ask = g.ca_key(MILAN, ASK)
    name = g.issuer(MILAN, ASK).name
    extensions = ("snp.vek.extensions",)
    malformed: list[tuple[str, str, dict[str, Any]]] = [
        ("ext-twice", "Extension snpSPL twice, with the same value.", {"extensions": g.and_also(_level("3.3", 0x18))}),
        ("ext-twice-unknown", "An unknown extension twice.", {"extensions": g.and_also(*[_other(critical=False)] * 2)}),
        ("ext-critical", "An unknown critical extension.", {"extensions": g.and_also(_other(critical=True))}),
        ("ext-no-tcb-level", "Extension teeSPL is missing.", {"extensions": g.without("3.2")}),
        ("ext-no-struct-version", "Extension structVersion is missing.", {"extensions": g.without("1")}),
        ("ext-no-product", "Extension productName is missing.", {"extensions": g.without("2")}),
        ("ext-no-fmc", "Extension fmcSPL is missing on Turin.", {"machine": "Turin", "extensions": g.without("3.9")}),
        ("ext-fmc-on-milan", "Extension fmcSPL on Milan.", {"extensions": g.and_also(_level("3.9", 0))}),
        (
            "ext-spl4-on-turin",
            "Extension spl4 on Turin.",
            {"machine": "Turin", "extensions": g.and_also(_level("3.4", 0))},
        ),
        ("ext-level-256", "A patch level of 256.", {"extensions": g.with_value("3.8", bytes.fromhex("02020100"))}),
        (
            "ext-level-long",
            "A level in two bytes.",
            {"extensions": g.with_value("3.8", bytes.fromhex("02020018"))},
        ),
        ("ext-struct-version-2", "structVersion 2.", {"extensions": g.with_value("1", b"\x02\x01\x02")}),
        ("hwid-63", "hwID of 63 bytes.", {"extensions": g.with_value("4", bytes(63))}),
        (
            "hwid-bad-der",
            "hwID as an OCTET STRING of another length.",
            {"extensions": g.with_value("4", b"\x04\x3f" * 33)},
        ),
    ]
    return [
        *[
            case(name=slug, description=text, verdict="malformed", failed=extensions, **changes)
            for slug, text, changes in malformed
        ],
        case(
            name="leaf-p256",
            description="A leaf with a key on P-256.",
            verdict="malformed",
            failed=("snp.vek.format",),
            vek={"public_key": ec.derive_private_key(1, ec.SECP256R1()).public_key()},
        ),
        case(
            name="leaf-common-name",
            description="A leaf whose subject is neither SEV-VCEK nor SEV-VLEK.",
            verdict="malformed",
            failed=("snp.vek.role",),
            vek={"subject_cn": "VCEK"},
        ),
        case(
            name="struct-version-of-turin",
            description="A Milan's leaf in the form of Turin (structVersion 1).",
            failed=extensions,
            tcb=Tcb(fmc=4, bl=0, tee=0, snp=0, ucode=0xDB, reserved=bytes(3)),
        ),
        case(
            name="product-name",
            description="The leaf names Genoa; its CA and the report are Milan's.",
            failed=("snp.vek.product",),
            extensions=g.with_value("2", b"\x16\x05Genoa"),
        ),
        case(
            name="product-name-prefix",
            description="A product that only begins with the right name.",
            failed=("snp.vek.product",),
            extensions=g.with_value("2", b"\x16\x06Milano"),
        ),
        case(
            name="leaf-pss-sha256",
            description="The leaf is signed in PSS with SHA-256.",
            failed=("snp.vek.signature_algorithm",),
            vek={"algorithm": pss_algorithm(1, 32)},
            issuer=g.Issuer(name, g.signer(ask, "sha256", 32)),
        ),
        case(
            name="leaf-pss-salt-32",
            description="The leaf is signed in PSS with a salt of 32 bytes, and says so.",
            failed=("snp.vek.signature_algorithm",),
            vek={"algorithm": pss_algorithm(2, 32)},
            issuer=g.Issuer(name, g.signer(ask, "sha384", 32)),
        ),
        case(
            name="leaf-pss-salt-32-hidden",
            description="The leaf is signed with a salt of 32 bytes, but says 48.",
            failed=("snp.vek.signature",),
            issuer=g.Issuer(name, g.signer(ask, "sha384", 32)),
        ),
        case(
            name="leaf-pkcs1v15",
            description="The leaf is signed in PKCS #1 v1.5 with SHA-384, and says so.",
            failed=("snp.vek.signature_algorithm",),
            vek={"algorithm": bytes.fromhex("300d06092a864886f70d01010c0500")},
            issuer=g.Issuer(name, lambda data: ask.sign(data, padding.PKCS1v15(), hashes.SHA384())),
        ),
        case(
            name="leaf-expired",
            description="The leaf ended a second before the time of verification.",
            failed=("snp.vek.validity",),
            vek={"not_after": g.AT - timedelta(seconds=1)},
        ),
        case(
            name="leaf-not-yet-valid",
            description="The leaf begins a second after the time of verification.",
            failed=("snp.vek.validity",),
            vek={"not_before": g.AT + timedelta(seconds=1)},
        ),
        case(
            name="vlek-expired",
            description="A VLEK lives for one year only.",
            failed=("snp.vek.validity",),
            signing_key=VLEK,
            at=datetime(2027, 2, 1, tzinfo=g.AT.tzinfo),
        ),
    ]


def _level(oid: str, value: int) -> Extension:
    return Extension(oid, bytes((2, 1, value)))


def _other(*, critical: bool) -> Extension:
    return Extension("1.3.6.1.4.1.3704.1.99", b"\x05\x00", critical)


def cases(g: ModuleType) -> list[Any]:
    """Every case of this file."""
    return [*accepted(g), *broken_chain(g), *broken_leaf(g)]
