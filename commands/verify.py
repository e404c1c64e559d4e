"""``dokimos verify``: evidence from files, or of a live endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..codec import pem_or_der, unhex
from ..errors import (
    MalformedEvidence,
    MaterialUnavailable,
    UnsupportedEvidence,
    UsageError,
    VerificationError,
)
from . import verdict, verify_bundle, verify_gpu, verify_tdx
from .render import read_file

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from ..verifier.policy import Policy
    from ..verifier.result import AttestationResult
    from ..verifier.snp_endorsements import SnpEndorsements


class _VerifyGroup(click.Group):
    """Sub-commands by name; anything with ``://`` in it is the URL of a live endpoint."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and "://" in args[0]:
            return "url", verify_bundle.url, args
        return super().resolve_command(ctx, args)


@click.group(cls=_VerifyGroup)
def command() -> None:
    """Verify evidence from files (`verify snp`, `tdx`, `gpu`, `bundle`) or a live endpoint (`verify URL`)."""


command.add_command(verify_tdx.command, "tdx")
command.add_command(verify_gpu.command, "gpu")
command.add_command(verify_bundle.command, "bundle")


@command.command("snp")
@click.argument("report", metavar="REPORT")
@click.option("--vek", metavar="FILE", help="VCEK or VLEK certificate, DER or PEM.")
@click.option("--ca", "cas", metavar="FILE", multiple=True, help="CA certificates; AMD's own are built in.")
@click.option("--crl", "crls", metavar="FILE", multiple=True, help="Revocation list of the root.")
@click.option("--cert-table", metavar="FILE", help="Certificate table of an extended report (auxblob).")
@click.option("--product", metavar="NAME", help="Milan, Genoa or Turin; only reports of version 2 need it.")
@verdict.AT
@verdict.POLICY
@click.option("--measurement", "measurements", metavar="HEX", multiple=True, help="Accepted launch measurement.")
@click.option("--report-data", metavar="HEX", help="The 64 bytes that REPORT_DATA must be.")
@click.option("--allow-vlek", is_flag=True, help="Accept a report that a VLEK signed.")
@click.option("--authentic-only", is_flag=True, help="Only whether it is genuine, not what it says.")
@verdict.JSON
@verdict.EAR
@verdict.VERBOSE
def _snp(  # noqa: PLR0917 - one parameter per option
    report: str,
    vek: str | None,
    cas: tuple[str, ...],
    crls: tuple[str, ...],
    cert_table: str | None,
    product: str | None,
    at: str | None,
    policy_file: str | None,
    measurements: tuple[str, ...],
    report_data: str | None,
    allow_vlek: bool,
    authentic_only: bool,
    as_json: bool,
    as_ear: bool,
    verbose: bool,
) -> None:
    """Verify an AMD SEV-SNP attestation report, offline.

    REPORT is the raw report of 1184 bytes, or an Azure HCL report, whose binding is then checked too; "-" reads it from
    standard input.  Certificates and lists may be DER or PEM.
    """
    from ..evidence.snp import Product  # noqa: PLC0415 - help need not pay
    from ..verifier import appraise, snp  # noqa: PLC0415

    def run() -> AttestationResult:
        moment = verdict.moment(at)
        policy = _policy(policy_file, measurements, allow_vlek=allow_vlek)
        wanted = unhex(report_data, "--report-data", 64) if report_data is not None else None
        raw, bound = _report(read_file(report, "report"))
        if bound is not None and wanted not in (None, bound):
            raise UsageError("--report-data differs from the hash of the HCL report's runtime data")
        table = _cert_table(cert_table)
        endorsements = _endorsements(vek, cas, crls, table)
        named = _product(product)
        try:
            verified = snp.verify_snp(
                raw, endorsements, trust=policy.trust(), at=moment, product=Product(named) if named else None
            )
        except VerificationError as exc:
            return _rejected(exc, moment, raw)
        return appraise.appraise_snp(
            verified,
            policy,
            authentic_only=authentic_only,
            report_data=wanted if bound is None else bound,
            cert_table=table,
        )

    verdict.finish(run, title=f"SEV-SNP report {report}", as_json=as_json, as_ear=as_ear, verbose=verbose)


def _rejected(error: VerificationError, at: datetime, report: bytes | None) -> AttestationResult:
    """The result of evidence that is not authentic; what its report says is shown, and none of it is verified."""
    from ..verifier.result import rejected  # noqa: PLC0415

    return rejected(error, at=at, report=report)


def _product(name: str | None) -> str | None:
    known = {"milan": "Milan", "genoa": "Genoa", "turin": "Turin", "bergamo": "Genoa", "siena": "Genoa"}
    if name is None:
        return None
    if name.lower() not in known:
        raise click.UsageError(f"--product {name}: known are Milan, Genoa (also Bergamo and Siena) and Turin")
    return known[name.lower()]


def _policy(path: str | None, measurements: tuple[str, ...], *, allow_vlek: bool) -> Policy:
    """The file's policy, or the strict default, with what the command line adds."""
    from ..evidence.snp import SigningKey  # noqa: PLC0415

    policy = verdict.policy(path)
    if measurements:
        policy = policy.with_snp(
            measurements=(*policy.snp.measurements, *(unhex(text, "--measurement", 48) for text in measurements))
        )
    if allow_vlek:
        policy = policy.with_snp(signers=(SigningKey.VCEK, SigningKey.VLEK))
    return policy


def _report(data: bytes) -> tuple[bytes, bytes | None]:
    """The report, and the REPORT_DATA that its wrapping demands."""
    if data[:4] != b"HCLA":
        return data, None
    from ..evidence.azure_hcl import HclReportType, parse_hcl_report  # noqa: PLC0415

    hcl = parse_hcl_report(data)
    if hcl.type is not HclReportType.SNP:
        raise UnsupportedEvidence("the HCL report is of a TD, not of an SEV-SNP guest")
    return hcl.report, hcl.expected_report_data()


def _cert_table(path: str | None) -> dict[UUID, bytes] | None:
    from ..evidence.cert_table import parse_cert_table  # noqa: PLC0415

    return parse_cert_table(read_file(path, "certificate table")) if path else None


def _endorsements(
    vek: str | None, cas: tuple[str, ...], crls: tuple[str, ...], table: dict[UUID, bytes] | None
) -> SnpEndorsements:
    """Certificates and lists from files and from the certificate table."""
    from ..evidence import cert_table as guids  # noqa: PLC0415
    from ..verifier.snp_endorsements import SnpEndorsements  # noqa: PLC0415

    found = table or {}
    leaves = [found[guid] for guid in (guids.VCEK, guids.VLEK) if guid in found]
    if vek is not None:
        leaves = [read_file(vek, "VEK certificate")]
    if not leaves:
        raise MaterialUnavailable("no VCEK or VLEK certificate: give it with --vek or in a --cert-table")
    if len(leaves) != 1:
        raise MalformedEvidence("the certificate table holds a VCEK and a VLEK; name one with --vek")
    ca_files = [(f"CA certificate {path}", read_file(path, "CA certificate")) for path in cas]
    ca_files += [("certificate table", found[guid]) for guid in (guids.ASK, guids.ARK) if guid in found]
    crl_files = [(f"CRL {path}", read_file(path, "CRL")) for path in crls]
    crl_files += [("certificate table", found[guids.CRL])] if guids.CRL in found else []
    leaf = pem_or_der(leaves[0], "VEK certificate")  # a PEM file may bring its chain behind the leaf
    return SnpEndorsements(
        vek=leaf[0],
        cas=(*leaf[1:], *(ca for what, data in ca_files for ca in pem_or_der(data, what))),
        crls=tuple(crl for what, data in crl_files for crl in pem_or_der(data, what, "X509 CRL")),
    )
