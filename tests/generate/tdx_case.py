"""What one synthetic TDX case is, and how a genuine one is made; of it the cases are variations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256

from dokimos.attest.sim_quote import QeFields, QuoteFields, TdFields
from dokimos.attest.sim_tdx import TdxHierarchy, current_documents
from dokimos.attest.sim_tdx_collateral import IsvLevelFields, TcbInfoFields
from dokimos.attest.sim_tdx_pki import PckFields
from dokimos.endorsements.collateral_bundle import TdxCollateral
from dokimos.errors import Check

AT = datetime(2026, 3, 1, tzinfo=UTC)
SECRET = bytes(range(32))
OLD, NEW = datetime(2024, 3, 13, tzinfo=UTC), datetime(2025, 8, 13, tzinfo=UTC)

PLATFORM = (
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "Revoked",
)
ISV = ("UpToDate", "OutOfDate", "Revoked", "NotSupported")
# What is left of a platform's status beside a module or an enclave that is out of date.
LATE = dict(zip(PLATFORM, ("OutOfDate",) * 2 + ("OutOfDateConfigurationNeeded",) * 2 + PLATFORM[4:], strict=True))
# The same where only the TD is older than the module that runs now, and the enclave is up to date.
RELAUNCH = {
    "UpToDate": "TDRelaunchAdvised",
    "SWHardeningNeeded": "TDRelaunchAdvised",
    "ConfigurationNeeded": "TDRelaunchAdvisedConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded": "TDRelaunchAdvisedConfigurationNeeded",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case.

    Attributes:
        name: what is special about it.
        quote: as received.
        collateral: as received.
        root: the simulated root's certificate in DER.
        at: the time of verification.
        failing: the check that must fail, or None where the quote is genuine.
        converged: Intel's verdict on the whole, likewise platform, module (None for version 1.0) and qe; "" where
            nothing is declared.
    """

    name: str
    quote: bytes
    collateral: TdxCollateral
    root: bytes
    at: datetime = AT
    failing: Check | None = None
    converged: str = ""
    platform: str = ""
    module: str | None = ""
    qe: str = ""

    @property
    def root_sha256(self) -> bytes:
        """What a policy must name."""
        return sha256(self.root).digest()


@cache
def hierarchy(pck: PckFields | None = None, secret: bytes = SECRET) -> TdxHierarchy:
    """Keys and certificates of one platform."""
    return TdxHierarchy(secret, pck)


def isv_levels(status: str, late: str = "OutOfDate") -> tuple[IsvLevelFields, ...]:
    """Levels by which SVN 5 has a status; for "NotSupported" none is low enough."""
    if status == "NotSupported":
        return (IsvLevelFields(isvsvn=9, status="UpToDate"),)
    if status == "UpToDate":
        return (IsvLevelFields(isvsvn=5, status="UpToDate"), IsvLevelFields(isvsvn=2, status=late, date=OLD))
    return (
        IsvLevelFields(isvsvn=6, status="UpToDate"),
        IsvLevelFields(isvsvn=5, status=status, date=OLD, advisories=(f"INTEL-SA-{status}",)),
        IsvLevelFields(isvsvn=0, status="Revoked", date=OLD),
    )


TD10 = TdFields()
TD15 = TdFields(tee_tcb_svn2=bytes((6, 1, 6, *[0] * 13)))
QE = QeFields(isvsvn=5)
PCK = PckFields()


def make(
    name: str,
    td: TdFields = TD10,
    change: Callable[[TcbInfoFields], TcbInfoFields] = lambda info: info,
    qe_status: str = "UpToDate",
    pck: PckFields = PCK,
    enclave: QeFields = QE,
    **expected: object,
) -> Case:
    """A genuine quote with collateral that says something."""
    made = hierarchy(pck)
    info, identity = current_documents(pck, td, AT)
    identity = replace(identity, levels=isv_levels(qe_status))
    version = 4 if td.tee_tcb_svn2 is None else 5
    fields = QuoteFields(td=td, qe=enclave, version=version, certification=(5, made.pck_chain))
    collateral = made.collateral(change(info), identity, AT)
    return Case(name=name, quote=made.quote(fields), collateral=collateral, root=made.root, **expected)  # type: ignore[arg-type]


def with_status(platform: str, module: str) -> Callable[[TcbInfoFields], TcbInfoFields]:
    """The platform's level and the module's have these statuses."""

    def change(info: TcbInfoFields) -> TcbInfoFields:
        level = replace(info.levels[0], status=platform, advisories=("INTEL-SA-00001",))
        lower = replace(level, sgx=(0,) * 16, tdx=(0,) * 16, pcesvn=0, status="OutOfDate", date=OLD)
        modules = (replace(info.modules[0], levels=isv_levels(module)),)
        return replace(info, levels=(level, lower), modules=modules)

    return change


def varied(case: Case, **parts: object) -> Case:
    """The same case with other parts."""
    return replace(case, **parts)  # type: ignore[arg-type]
