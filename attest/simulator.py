"""The simulated platform: reports as the hardware writes them, under a root of its own.

It exists so that everything above it runs and is tested without the hardware.  Its root is made on first use in a state
folder, nobody else has it, and a verifier accepts it only under a policy that names the root's hash.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from ..errors import MaterialUnavailable, UsageError
from ..evidence import cert_table
from ..evidence.snp import SigningKey
from . import sim_pki
from .provider import REPORT_DATA_SIZE, VMPLS, Endorsements, Quote
from .sim_pki import Authority
from .sim_report import (
    DEFAULT_POLICY,
    MACHINES,
    Machine,
    ReportFields,
    derive_chip_id,
    derive_key,
    machine_fields,
    write_report,
)
from .sim_state import StateFolder

if TYPE_CHECKING:
    from ..measurements.snp import SnpLaunch

CSP_ID = "CN=simulated.invalid"
"""Cloud provider in the VLEK certificates; the top-level name can never exist (RFC 6761)."""
LATEST_VERSION = 5
"""Report version that is written where none is asked for."""

_CLOCK_SKEW = timedelta(hours=1)


def _now() -> datetime:
    return datetime.now(UTC)


class _Ca(NamedTuple):
    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def default_state_dir() -> Path:
    """Where the simulated platform keeps its keys unless told otherwise (XDG base directories)."""
    base = os.environ.get("XDG_STATE_HOME", "")
    # A relative path is to be ignored by that specification.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".local" / "state") / "dokimos" / "sim"


class SimulatedPlatform:
    """A machine with its own manufacturer.

    Keys are made when they are first needed and kept in `state_dir` (folders 0700, files 0600); several processes may
    share a folder.  RSA keys of 4096 bits take a second or more each.

    Args:
        state_dir: the folder; made if it is not there.
        product: "Milan", "Genoa", "Bergamo" or "Turin".
        version: report version, 2 to 5.
        signing_key: whether reports are signed by the chip's VCEK or by a VLEK.
        mask_chip_id: the owner hid the chip's id: reports carry zeros.
        clock: gives the current time, with a time zone.

    Raises:
        UsageError: an unknown product or version.
        MaterialUnavailable: by every method: the state cannot be read or written, or is damaged.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        product: str = "Milan",
        version: int = LATEST_VERSION,
        signing_key: SigningKey = SigningKey.VCEK,
        mask_chip_id: bool = False,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        if product not in MACHINES:
            raise UsageError(f"the simulated platform plays {', '.join(MACHINES)}, not {product!r}")
        if signing_key is SigningKey.NONE:
            raise UsageError("the simulated platform signs its reports, with a VCEK or a VLEK")
        self.machine: Machine = MACHINES[product]
        self.version = version
        self.signing_key = signing_key
        self.mask_chip_id = mask_chip_id
        self._clock = clock
        self._folder = StateFolder(state_dir, self.machine.product)
        machine_fields(self.machine, version, b"")  # refuses an unknown version now, not at the first report

    @property
    def root_certificate(self) -> bytes:
        """The ARK certificate in DER."""
        return self._ark.der

    @property
    def root_sha256(self) -> bytes:
        """SHA-256 of it, which a policy must name."""
        return sim_pki.root_sha256(self._ark.der)

    @property
    def issuer_certificate(self) -> bytes:
        """The certificate in DER of the ASK, or of the ASVK where a VLEK signs."""
        return self._issuer.der

    @property
    def chip_id(self) -> bytes:
        """The chip's id, 64 bytes, or 8 on Turin."""
        return derive_chip_id(self._secret, self.machine.product)

    def crl(self) -> bytes:
        """A fresh CRL in DER that revokes nothing."""
        at = self._clock() - _CLOCK_SKEW
        made = sim_pki.revocation_list(self.machine.product, root_key=self._ark.key, this_update=at)
        return made.public_bytes(Encoding.DER)

    def vek(self, tcb: bytes | None = None) -> bytes:
        """The leaf certificate in DER for a TCB, made anew at each call, as AMD's service does.

        Args:
            tcb: REPORTED_TCB, 8 bytes; None for the machine's own.
        """
        raw = self.machine.tcb.to_bytes() if tcb is None else tcb
        levels = type(self.machine.tcb).from_bytes(raw, self.machine.product)
        at = self._clock() - _CLOCK_SKEW
        vlek = self.signing_key is SigningKey.VLEK
        extensions = sim_pki.vek_extensions(
            product_name=self.machine.product if vlek else self.machine.product_name,
            tcb=levels,
            hwid=None if vlek else self.chip_id,
            csp_id=CSP_ID if vlek else None,
        )
        fields = sim_pki.VekFields(
            subject_cn=f"SEV-{self.signing_key.name}",
            public_key=derive_key(self._secret, self.signing_key.name, raw).public_key(),
            not_before=at,
            not_after=at + timedelta(days=sim_pki.VEK_DAYS[self.signing_key]),
            extensions=extensions,
        )
        issuer = sim_pki.Issuer(self._issuer.certificate.subject.public_bytes(), sim_pki.signer(self._issuer.key))
        return sim_pki.write_vek(fields, issuer)

    def launch(
        self,
        measurement: bytes,
        *,
        host_data: bytes = bytes(32),
        policy: int = DEFAULT_POLICY,
        family_id: bytes = bytes(16),
        image_id: bytes = bytes(16),
        guest_svn: int = 0,
    ) -> SimulatedGuest:
        """Start a guest of a known launch digest.

        Args:
            measurement: launch digest, 48 bytes.
            host_data: what the host says about the guest, 32 bytes.
            policy: guest policy bits.
            family_id: from the ID block, 16 bytes.
            image_id: from the ID block, 16 bytes.
            guest_svn: security version of the guest.

        Raises:
            UsageError: a value of another size.
        """
        sizes = [len(part) for part in (measurement, host_data, family_id, image_id)]
        if sizes != [48, 32, 16, 16]:
            raise UsageError(
                "a launch has a measurement of 48 bytes, 32 of host_data, 16 of family_id and image_id each"
            )
        tell_chip_id = not self.mask_chip_id and self.signing_key is SigningKey.VCEK
        fields = replace(
            machine_fields(self.machine, self.version, self.chip_id if tell_chip_id else b""),
            measurement=measurement,
            host_data=host_data,
            policy=policy,
            family_id=family_id,
            image_id=image_id,
            guest_svn=guest_svn,
            signing_key=self.signing_key,
            report_id=secrets.token_bytes(32),
        )
        return SimulatedGuest(self, fields)

    def launch_image(
        self, launch: SnpLaunch, *, host_data: bytes = bytes(32), policy: int = DEFAULT_POLICY
    ) -> SimulatedGuest:
        """Start a guest from firmware, kernel, initrd and command line; its launch digest is computed.

        Args:
            launch: what is loaded into the guest.
            host_data: as in :meth:`launch`.
            policy: as in :meth:`launch`.

        Raises:
            Error: as :func:`dokimos.measurements.snp.launch_digest`.
        """
        from ..measurements.snp import launch_digest  # noqa: PLC0415 - not needed where the digest is given

        return self.launch(launch_digest(launch), host_data=host_data, policy=policy)

    def sign(self, fields: ReportFields) -> bytes:
        """A report of any content, signed by the key that belongs to its REPORTED_TCB."""
        return write_report(fields, derive_key(self._secret, self.signing_key.name, fields.reported_tcb))

    @cached_property
    def _secret(self) -> bytes:
        secret = self._folder.keep("chip.secret", lambda: secrets.token_bytes(32))
        if len(secret) != 32:
            raise self._damaged("chip.secret")
        return secret

    @cached_property
    def _ark(self) -> _Ca:
        return self._ca(Authority.ARK)

    @cached_property
    def _issuer(self) -> _Ca:
        return self._ca(Authority.ASVK if self.signing_key is SigningKey.VLEK else Authority.ASK)

    def _ca(self, authority: Authority) -> _Ca:
        """Key and certificate of a CA; both stand in one file, so that they can never be a mixed pair."""
        # Before the lock is taken: the root must be there to sign, and the lock is not reentrant.
        root_key = None if authority is Authority.ARK else self._ark.key

        def make() -> bytes:
            key = rsa.generate_private_key(public_exponent=65537, key_size=4096)
            certificate = sim_pki.ca_certificate(
                authority,
                self.machine.product,
                key=key,
                root_key=root_key or key,
                # A VEK starts when it is made; a CA must not start later, whatever the clocks of two processes say.
                not_before=self._clock() - timedelta(days=1),
            )
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            return pem + certificate.public_bytes(Encoding.PEM)

        data = self._folder.keep(f"{authority}.pem", make)
        try:
            # The check of the primes takes 0.3 s; whoever can alter this file needs no weak primes.
            key = load_pem_private_key(data, None, unsafe_skip_rsa_key_validation=True)
            certificate = x509.load_pem_x509_certificate(data)
        except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
            raise self._damaged(f"{authority}.pem") from exc
        if not isinstance(key, rsa.RSAPrivateKey) or certificate.public_key() != key.public_key():
            raise self._damaged(f"{authority}.pem")
        return _Ca(key, certificate)

    def _damaged(self, name: str) -> MaterialUnavailable:
        return MaterialUnavailable(
            f"simulated platform: {self._folder.path / name} is damaged; remove {self._folder.path}"
        )


class SimulatedGuest:
    """A guest on the simulated platform; a :class:`~dokimos.attest.provider.Provider`.

    Attributes:
        platform: the machine.
        fields: what its reports say, apart from report_data and vmpl; replace it to make a report of another meaning.
    """

    name = "SIMULATED"
    simulated = True

    def __init__(self, platform: SimulatedPlatform, fields: ReportFields) -> None:
        self.platform = platform
        self.fields = fields
        self._endorsements: dict[bytes, Endorsements] = {}

    def report(self, report_data: bytes, *, vmpl: int = 0) -> Quote:
        """A fresh report with the certificate table that a host would hand out.

        Raises:
            UsageError: not 64 bytes, or a level other than 0 to 3.
        """
        if len(report_data) != REPORT_DATA_SIZE or vmpl not in VMPLS:
            raise UsageError(f"a report takes {REPORT_DATA_SIZE} bytes of report_data and a VMPL of 0 to 3")
        report = self.platform.sign(replace(self.fields, report_data=report_data, vmpl=vmpl))
        vek, cas, crls = self.endorsements()
        leaf = cert_table.VLEK if self.platform.signing_key is SigningKey.VLEK else cert_table.VCEK
        contents = {leaf: vek, cert_table.ASK: cas[0], cert_table.ARK: cas[1], cert_table.CRL: crls[0]}
        return Quote(report, cert_table.encode_cert_table(contents))

    def endorsements(self) -> Endorsements:
        """The leaf for the guest's REPORTED_TCB, both CA certificates, and a CRL; made once for each TCB."""
        tcb, platform = self.fields.reported_tcb, self.platform
        if tcb not in self._endorsements:
            cas = (platform.issuer_certificate, platform.root_certificate)
            self._endorsements[tcb] = Endorsements(platform.vek(tcb), cas, (platform.crl(),))
        return self._endorsements[tcb]
