"""The simulated TDX platform: its own manufacturer, quotes and collateral that are really signed.

All keys follow from one secret, made on first use; certificates are the same bytes each time, so that a policy can name
the root's hash.  Its evidence proves nothing about hardware, and a verifier accepts it only under such a policy.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from ..endorsements.collateral_bundle import TdxCollateral, encode_collateral
from ..errors import MaterialUnavailable, UsageError
from ..evidence.bundle import TdxEvidence
from . import sim_tdx_pki as pki
from .sim_quote import QE_MRSIGNER, QuoteFields, TdFields, write_quote
from .sim_state import StateFolder
from .sim_tdx_collateral import (
    IsvLevelFields,
    LevelFields,
    ModuleFields,
    QeIdentityFields,
    TcbInfoFields,
    chain_header,
    qe_identity,
    tcb_info,
)
from .sim_tdx_pki import CertificateFields, PckFields, TdxAuthority

NOT_BEFORE = datetime(2024, 1, 1, tzinfo=UTC)
NOT_AFTER = datetime(2049, 12, 31, tzinfo=UTC)
_SKEW = timedelta(minutes=5)
_COLLATERAL_DAYS = timedelta(days=30)
_SECRET = "platform.secret"
_SERIALS = {
    TdxAuthority.ROOT: 0x22650CD6,
    TdxAuthority.PLATFORM_CA: 0x956F5DCD,
    TdxAuthority.PROCESSOR_CA: 0x956F5DCE,
    TdxAuthority.TCB_SIGNING: 0x7E3882D5,
}


def _now() -> datetime:
    return datetime.now(UTC)


class TdxHierarchy:
    """Keys and certificates of a simulated manufacturer and one platform, all out of one secret.

    Args:
        secret: 32 bytes.
        pck: what the platform's certificate says.
    """

    def __init__(self, secret: bytes, pck: PckFields | None = None) -> None:
        self._secret = secret
        self.pck_fields = pck or PckFields()
        self.ca = (
            TdxAuthority.PLATFORM_CA if self.pck_fields.platform_instance_id is not None else TdxAuthority.PROCESSOR_CA
        )
        self.pck_key = pki.derive_p256(secret, f"PCK {self.pck_fields!r}")
        self.attestation_key = pki.derive_p256(secret, "attestation key")
        self.keys = {authority: pki.derive_p256(secret, authority) for authority in TdxAuthority}

    def certificate(self, authority: TdxAuthority) -> bytes:
        """The certificate of an authority in DER."""
        return pki.certificate(
            CertificateFields(
                authority=authority,
                key=self.keys[authority],
                issuer_key=self.keys[TdxAuthority.ROOT],
                not_before=NOT_BEFORE,
                not_after=NOT_AFTER,
                serial=_SERIALS[authority],
            )
        )

    @cached_property
    def root(self) -> bytes:
        """The root's certificate in DER."""
        return self.certificate(TdxAuthority.ROOT)

    @cached_property
    def pck(self) -> bytes:
        """The platform's certificate in DER."""
        return pki.pck_certificate(
            self.pck_fields,
            key=self.pck_key,
            issuer=self.ca,
            issuer_key=self.keys[self.ca],
            not_before=NOT_BEFORE,
            not_after=NOT_BEFORE + timedelta(days=7 * 365),
        )

    @cached_property
    def pck_chain(self) -> bytes:
        """PEM of the platform's certificate, its CA and the root."""
        return pki.pem(self.pck, self.certificate(self.ca), self.root)

    def crl(self, authority: TdxAuthority, at: datetime, revoked: tuple[int, ...] = ()) -> bytes:
        """A revocation list in DER, fresh at a time."""
        return pki.revocation_list(
            authority,
            issuer_key=self.keys[authority],
            this_update=at - _SKEW,
            next_update=at + _COLLATERAL_DAYS,
            revoked=revoked,
        )

    def collateral(self, info: TcbInfoFields, identity: QeIdentityFields, at: datetime) -> TdxCollateral:
        """Collateral with these documents, as the provisioning service would give it at a time."""
        signer = self.keys[TdxAuthority.TCB_SIGNING]
        chain = chain_header(self.certificate(TdxAuthority.TCB_SIGNING), self.root)
        return TdxCollateral(
            tcb_info=tcb_info(info, signer),
            tcb_info_chain=chain,
            qe_identity=qe_identity(identity, signer),
            qe_identity_chain=chain,
            pck_crl=self.crl(self.ca, at),
            pck_crl_chain=chain_header(self.certificate(self.ca), self.root),
            root_crl=self.crl(TdxAuthority.ROOT, at),
        )

    def quote(self, fields: QuoteFields) -> bytes:
        """A quote of this platform."""
        return write_quote(fields, attestation_key=self.attestation_key, pck=self.pck_key)


def current_documents(pck: PckFields, td: TdFields, at: datetime) -> tuple[TcbInfoFields, QeIdentityFields]:
    """A TCB info and a QE identity by which a platform and its TDX module are up to date."""
    issued, due = at - _SKEW, at + _COLLATERAL_DAYS
    version, isvsvn = td.tee_tcb_svn[1], td.tee_tcb_svn[0]
    # A module of version 1.5 or later has levels of its own, so that the platform's say nothing of its SVN and version.
    tdx = td.tee_tcb_svn if version == 0 else bytes((0, 0, *td.tee_tcb_svn[2:]))
    level = LevelFields(sgx=pck.components, pcesvn=pck.pcesvn, tdx=tuple(tdx), status="UpToDate")
    module = ModuleFields(id=f"TDX_{version:02X}", levels=(IsvLevelFields(isvsvn=isvsvn, status="UpToDate"),))
    info = TcbInfoFields(
        issue_date=issued,
        next_update=due,
        fmspc=pck.fmspc,
        pceid=pck.pceid,
        levels=(level,),
        modules=(module,) if version else (),
    )
    levels = (IsvLevelFields(isvsvn=4, status="UpToDate"),)
    return info, QeIdentityFields(issue_date=issued, next_update=due, levels=levels, mrsigner=QE_MRSIGNER)


class SimulatedTdx:
    """A machine with TDX and its own manufacturer.

    Args:
        state_dir: folder in which the one secret is kept (folders 0700, file 0600); made if it is not there.
        clock: gives the current time, with a time zone.

    Raises:
        MaterialUnavailable: by every method: the state cannot be read or written, or is damaged.
    """

    def __init__(self, state_dir: Path, *, clock: Callable[[], datetime] = _now) -> None:
        self._folder = StateFolder(state_dir, "TDX")
        self._clock = clock

    @cached_property
    def hierarchy(self) -> TdxHierarchy:
        """Keys and certificates."""
        secret = self._folder.keep(_SECRET, lambda: secrets.token_bytes(32))
        if len(secret) != 32:
            raise MaterialUnavailable(f"simulated platform: {_SECRET} is damaged; remove {self._folder.path}")
        return TdxHierarchy(secret)

    @property
    def root_sha256(self) -> bytes:
        """SHA-256 of the root's certificate, which a policy must name."""
        return sha256(self.hierarchy.root).digest()

    def launch(
        self, mrtd: bytes, rtmrs: tuple[bytes, bytes, bytes, bytes], *, event_log: bytes | None = None
    ) -> SimulatedTd:
        """Start a TD of known measurements.

        Args:
            mrtd: 48 bytes.
            rtmrs: the run-time registers, 48 bytes each.
            event_log: CCEL log that explains them, or None.

        Raises:
            UsageError: a value of another size.
        """
        if any(len(value) != 48 for value in (mrtd, *rtmrs)):
            raise UsageError("MRTD and RTMRs have 48 bytes each")
        return SimulatedTd(self, TdFields(mrtd=mrtd, rtmrs=rtmrs), event_log)

    def collateral(self, td: TdFields) -> TdxCollateral:
        """Fresh collateral by which the machine is up to date."""
        at, hierarchy = self._clock(), self.hierarchy
        return hierarchy.collateral(*current_documents(hierarchy.pck_fields, td, at), at)


class SimulatedTd:
    """A TD on the simulated platform.

    Attributes:
        platform: the machine.
        fields: what its quotes say, apart from report_data; replace it to make a quote of another meaning.
        event_log: the CCEL log, or None.
    """

    name = "SIMULATED TDX"
    simulated = True

    def __init__(self, platform: SimulatedTdx, fields: TdFields, event_log: bytes | None = None) -> None:
        self.platform = platform
        self.fields = fields
        self.event_log = event_log

    def quote(self, report_data: bytes) -> bytes:
        """A fresh quote.

        Raises:
            UsageError: not 64 bytes.
        """
        if len(report_data) != 64:
            raise UsageError("a quote takes 64 bytes of report_data")
        hierarchy = self.platform.hierarchy
        fields = QuoteFields(
            td=replace(self.fields, report_data=report_data),
            version=4 if self.fields.tee_tcb_svn2 is None else 5,
            certification=(5, hierarchy.pck_chain),
        )
        return hierarchy.quote(fields)

    def collateral(self) -> TdxCollateral:
        """Fresh collateral for it."""
        return self.platform.collateral(self.fields)

    def evidence(self, report_data: bytes) -> TdxEvidence:
        """See :class:`~dokimos.attest.provider.EvidenceSource`."""
        return TdxEvidence(
            quote=self.quote(report_data), collateral=encode_collateral(self.collateral()), event_log=self.event_log
        )
