"""Cases behind ``tests/vectors/snp``: revocation lists, reports of another meaning, reports that are broken.

The ids of failed checks are ours (``docs/checks.md``); the list of things that go wrong comes from the defects of other
verifiers as much as from the ABI.
"""

from __future__ import annotations

from datetime import timedelta
from types import ModuleType
from typing import Any

from dokimos.attest.sim_pki import Authority, Extension
from dokimos.attest.sim_report import MACHINES, P384_ORDER
from dokimos.evidence.snp import Fms, Product, SigningKey, Tcb

MILAN, GENOA, TURIN = Product.MILAN, Product.GENOA, Product.TURIN
ARK, ASK, ASVK = Authority.ARK, Authority.ASK, Authority.ASVK
VLEK = SigningKey.VLEK


def broken_crl(g: ModuleType) -> list[Any]:
    def case(slug: str, text: str, check: str, crl: bytes | None, **changes: Any) -> Any:
        return g.Case(name=f"crl-{slug}", description=text, failed=(f"snp.crl.{check}",), crl=crl, **changes)

    return [
        case("revoked-ask", "The CRL revokes the ASK.", "revoked", g.crl(MILAN, revoked=[ASK.serial(MILAN)])),
        case(
            "revoked-asvk",
            "The CRL revokes the ASVK.",
            "revoked",
            g.crl(MILAN, revoked=[ASVK.serial(MILAN)]),
            signing_key=VLEK,
        ),
        case("stale", "nextUpdate has passed.", "fresh", g.crl(MILAN, days=30)),
        case("future", "thisUpdate has not come.", "fresh", g.crl(MILAN, start=g.AT + timedelta(days=1))),
        case("other-key", "The root's name, another key.", "signature", g.crl(MILAN, key=g.ca_key(GENOA, ARK))),
        case("by-ask", "The root's name, signed by the ASK.", "signature", g.crl(MILAN, key=g.ca_key(MILAN, ASK))),
        case("other-product", "The CRL of Genoa's root.", "signature", g.crl(GENOA)),
        case(
            "root-may-not-sign",
            "The root signed the CRL, but its key usage does not allow it.",
            "signature",
            g.crl(MILAN),
            cas={"ark": _root_without_crl_sign(g), "ask": g.ca(MILAN, ASK)},
            simulated_root=_root_without_crl_sign(g),
        ),
        case("missing", "The policy demands a CRL, and none came.", "required", None, revocation="require"),
    ]


def _root_without_crl_sign(g: ModuleType) -> bytes:
    sign = g.signer(g.ca_key(MILAN, ARK))
    return bytes(g.resign(g.ca(MILAN, ARK), sign, swap=(bytes.fromhex("03020106"), bytes.fromhex("03020204"))))


def wrong_meaning(g: ModuleType) -> list[Any]:
    """The chain is good and the signature is by its key, but the report and the certificate do not belong together."""
    case = g.Case
    turin_id = bytes.fromhex("1122334455667788")
    milan_tcb = MACHINES["Milan"].tcb
    older = bytes.fromhex("04000000000018d9")
    vcek_for_vlek = {"signing_key": SigningKey.VLEK, "chip_id": bytes(64)}
    return [
        case(
            name="vlek-for-vcek",
            description="A VLEK, with its own true chain, for a report that names the VCEK.",
            failed=("snp.vek.role",),
            signing_key=VLEK,
            report={"signing_key": SigningKey.VCEK},
        ),
        case(
            name="vcek-for-vlek",
            description="A VCEK for a report that names the VLEK.",
            failed=("snp.vek.role",),
            report=vcek_for_vlek,
        ),
        *[
            case(
                name=f"tcb-{component}",
                description=f"The certificate's {component} level is one below the one of REPORTED_TCB.",
                failed=("snp.vek.tcb",),
                machine="Turin" if component == "fmc" else "Milan",
                tcb=tcb,
            )
            for component, tcb in {
                "bl": Tcb(bl=3, tee=0, snp=0x18, ucode=0xDB),
                "snp": Tcb(bl=4, tee=0, snp=0x17, ucode=0xDB),
                "ucode": Tcb(bl=4, tee=0, snp=0x18, ucode=0xDA),
                "fmc": Tcb(fmc=0, bl=2, tee=3, snp=4, ucode=0x55, reserved=bytes(3)),
            }.items()
        ],
        case(
            name="tcb-certificate-above",
            description="The certificate's ucode level is above the one of REPORTED_TCB.",
            failed=("snp.vek.tcb",),
            tcb=Tcb(bl=4, tee=0, snp=0x18, ucode=0xDC),
        ),
        case(
            name="tcb-reserved-level",
            description="A reserved level of the certificate (spl5) is not the one of REPORTED_TCB.",
            failed=("snp.vek.tcb",),
            tcb=Tcb(bl=4, tee=0, snp=0x18, ucode=0xDB, reserved=b"\x00\x01\x00\x00"),
        ),
        case(
            name="tcb-of-current",
            description="Certificate and signature belong to CURRENT_TCB, above REPORTED_TCB.",
            failed=("snp.vek.tcb",),
            report={"reported_tcb": older},
            tcb=milan_tcb,
            key_tcb=milan_tcb.to_bytes(),
        ),
        case(
            name="signed-by-current",
            description="The certificate is for REPORTED_TCB, but the key of CURRENT_TCB signed, as some hosts do.",
            failed=("snp.report.signature",),
            report={"reported_tcb": older},
            key_tcb=milan_tcb.to_bytes(),
        ),
        case(
            name="hwid-other-chip",
            description="The certificate of another chip of the same product.",
            failed=("snp.vek.hwid",),
            extensions=g.with_value("4", bytes(range(64))),
        ),
        case(
            name="hwid-missing",
            description="A VCEK that names no chip.",
            failed=("snp.vek.hwid",),
            extensions=g.without("4"),
        ),
        case(
            name="hwid-missing-masked",
            description="A VCEK that names no chip, and a masked chip id.",
            failed=("snp.vek.hwid",),
            extensions=g.without("4"),
            report={"chip_id": bytes(64)},
        ),
        case(
            name="hwid-beyond-8-turin",
            description="A Turin's chip id that goes on behind its 8 bytes.",
            failed=("snp.vek.hwid",),
            machine="Turin",
            hwid=turin_id,
            report={"chip_id": turin_id + b"\x01" + bytes(55)},
        ),
        case(
            name="hwid-on-vlek",
            description="A VLEK that names a chip.",
            failed=("snp.vek.hwid",),
            signing_key=VLEK,
            extensions=g.and_also(Extension("4", bytes(64))),
        ),
        case(
            name="csp-id-missing",
            description="A VLEK that names no provider.",
            failed=("snp.vek.hwid",),
            signing_key=VLEK,
            extensions=g.without("5"),
        ),
        case(
            name="csp-id-on-vcek",
            description="A VCEK that names a provider.",
            failed=("snp.vek.hwid",),
            extensions=g.and_also(Extension("5", b"\x16\x04CN=x")),
        ),
    ]


def broken_report(g: ModuleType) -> list[Any]:
    case = g.Case
    order = P384_ORDER.to_bytes(72, "little")
    unsigned = ("snp.report.signed",)
    form = ("snp.report.signature_format",)
    patched: list[tuple[str, str, int, bytes, tuple[str, ...]]] = [
        ("signature-zero", "R and S are zero.", 0x2A0, bytes(144), unsigned),
        ("signature-r-zero", "R is zero.", 0x2A0, bytes(72), form),
        ("signature-s-zero", "S is zero.", 0x2E8, bytes(72), form),
        ("signature-r-order", "R is the order of the group.", 0x2A0, order, form),
        ("signature-s-order", "S is the order of the group.", 0x2E8, order, form),
        ("signature-r-high", "R has a bit above its 48 bytes.", 0x2A0 + 48, b"\x01", form),
        ("signature-s-high", "S has a bit above its 48 bytes.", 0x2E8 + 71, b"\x80", form),
        ("signature-tail", "The signature field does not end in zeros.", 0x49F, b"\x01", form),
        ("signature-other", "R and S are in range, but not of this report.", 0x2A0, b"\x01", ("snp.report.signature",)),
        ("altered-measurement", "One byte of the measurement is another.", 0x090, b"\0", ("snp.report.signature",)),
        ("altered-report-data", "One byte of report_data is another.", 0x08F, b"\0", ("snp.report.signature",)),
        ("altered-policy", "The debug bit was cleared after signing.", 0x00A, b"\x03", ("snp.report.signature",)),
    ]
    fields: list[tuple[str, str, dict[str, Any], tuple[str, ...]]] = [
        ("signing-key-none", "SIGNING_KEY is NONE.", {"signing_key": 7}, unsigned),
        ("signing-key-2", "SIGNING_KEY is reserved.", {"signing_key": 2}, unsigned),
        ("mask-chip-key", "MASK_CHIP_KEY is set.", {"mask_chip_key": True}, unsigned),
        ("signature-algo", "SIGNATURE_ALGO is 2.", {"signature_algo": 2}, ("snp.report.signature_algo",)),
    ]
    unsupported: list[tuple[str, str, Fms]] = [
        ("venice", "A Venice, whose keys nobody published.", Fms(0x1A, 0x50, 0)),
        ("unknown-model", "Family 19h, model 20h.", Fms(0x19, 0x20, 0)),
        ("unknown-family", "Family 17h.", Fms(0x17, 0x31, 0)),
    ]
    return [
        *[
            case(name=slug, description=text, failed=failed, finish=g.put(offset, data), **_debug(slug))
            for slug, text, offset, data, failed in patched
        ],
        *[case(name=slug, description=text, failed=failed, report=changes) for slug, text, changes, failed in fields],
        *[
            case(
                name=slug,
                description=text,
                verdict="unsupported",
                failed=("snp.product.supported",),
                report={"fms": fms},
            )
            for slug, text, fms in unsupported
        ],
        *[
            case(
                name=f"version-{version}",
                description=f"Report version {version}.",
                verdict="unsupported",
                failed=("snp.report.version",),
                version=version,
            )
            for version in (1, 6)
        ],
        case(
            name="size-1183",
            description="The last byte is missing.",
            verdict="malformed",
            failed=("snp.report.size",),
            finish=lambda report: report[:-1],
        ),
        case(
            name="size-1185",
            description="One byte more.",
            verdict="malformed",
            failed=("snp.report.size",),
            finish=lambda report: report + b"\x00",
        ),
        case(
            name="other-product-named",
            description="The report is a Milan's, the caller says Genoa.",
            product="Genoa",
            failed=("snp.product.supported",),
        ),
    ]


def _debug(slug: str) -> dict[str, Any]:
    return {"report": {"policy": 0xB0000}} if slug == "altered-policy" else {}


def cases(g: ModuleType) -> list[Any]:
    """Every case of this file."""
    return [*broken_crl(g), *wrong_meaning(g), *broken_report(g)]
