"""Writes the synthetic SNP vectors: ``python tests/generate/snp.py``, with dokimos installed.

Everything is deterministic, also the signatures, so that ``test_regenerate_snp.py`` can compare byte for byte:

- the CA keys are files beside this one, the leaves' keys are derived from fixed secrets;
- RSASSA-PSS takes its salt from the signed bytes, ECDSA its nonce from RFC 6979.

One folder for each case, with a ``manifest.json``::

    description     what is special about it
    at              time of verification
    simulated_root  SHA-256 of the root certificate that the policy names
    revocation      what the policy demands: require, if-present or off
    product         only where the caller names the product
    files           role -> file name; roles: report, vek, ark, ask, asvk, crl
    expected        verdict (accepted, rejected, unsupported, malformed) and the ids of the failed checks

The cases themselves stand in ``snp_cases.py`` and ``snp_report_cases.py``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from pyasn1.codec.der import encoder
from pyasn1.type import univ

from dokimos.attest import sim_pki
from dokimos.attest.sim_pki import Authority, Extension, Issuer, VekFields
from dokimos.attest.sim_report import (
    MACHINES,
    ReportFields,
    derive_chip_id,
    derive_key,
    machine_fields,
    write_report,
)
from dokimos.endorsements import der
from dokimos.evidence.snp import Product, SigningKey, Tcb

KEYS = Path(__file__).parent / "keys"
VECTORS = Path(__file__).parent.parent / "vectors" / "snp"
AT = datetime(2026, 7, 1, tzinfo=UTC)
CA_START = datetime(2024, 1, 1, tzinfo=UTC)
VEK_START = datetime(2026, 1, 1, tzinfo=UTC)
CRL_START = datetime(2026, 5, 1, tzinfo=UTC)
CSP_ID = "CN=simulated.invalid"
MEASUREMENT = hashlib.sha384(b"dokimos synthetic vectors").digest()
REPORT_DATA = hashlib.sha512(b"dokimos synthetic vectors").digest()


# Deterministic signatures


@cache
def ca_key(product: Product, authority: Authority) -> rsa.RSAPrivateKey:
    pem = (KEYS / f"{product.lower()}-{authority}.pem").read_bytes()
    key = load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def _mgf1(seed: bytes, size: int, digest: str) -> bytes:
    blocks = (hashlib.new(digest, seed + n.to_bytes(4, "big")).digest() for n in range(size // 32 + 1))
    return b"".join(blocks)[:size]


@cache
def pss_signature(key: rsa.RSAPrivateKey, data: bytes, digest: str = "sha384", salt_length: int = 48) -> bytes:
    """RSASSA-PSS (RFC 8017 8.1.1 and 9.1.1) with a salt that follows from the data."""
    salt = hashlib.shake_256(b"salt" + data).digest(salt_length)
    hashed = hashlib.new(digest, bytes(8) + hashlib.new(digest, data).digest() + salt).digest()
    size = key.key_size // 8
    block = (b"\x01" + salt).rjust(size - len(hashed) - 1, b"\x00")
    mask = _mgf1(hashed, len(block), digest)
    masked = bytearray(a ^ b for a, b in zip(block, mask, strict=True))
    masked[0] &= 0x7F  # emBits is one less than the size of the modulus
    message = int.from_bytes(bytes(masked) + hashed + b"\xbc", "big")
    numbers = key.private_numbers()
    by_p = pow(message, numbers.dmp1, numbers.p)
    by_q = pow(message, numbers.dmq1, numbers.q)
    signed = by_q + (by_p - by_q) * numbers.iqmp % numbers.p * numbers.q
    return signed.to_bytes(size, "big")


def signer(key: rsa.RSAPrivateKey, digest: str = "sha384", salt_length: int = 48) -> sim_pki.Signer:
    return lambda data: pss_signature(key, data, digest, salt_length)


def resign(
    signed: bytes, sign: sim_pki.Signer, *, swap: tuple[bytes, bytes] | None = None, algorithm: bytes | None = None
) -> bytes:
    """Another signature on a certificate or CRL; `swap` replaces bytes of the signed part by as many others."""
    tbs, old, _ = (tlv.raw for tlv in der.children(der.only(signed, der.SEQUENCE, "signed").value, "signed", 3))
    if algorithm:
        assert len(algorithm) == len(old)
        tbs = tbs.replace(old, algorithm)
    if swap:
        assert tbs.count(swap[0]) == 1
        assert len(swap[0]) == len(swap[1])
        tbs = tbs.replace(*swap)
    sequence = univ.Sequence()
    signature = univ.BitString.fromOctetString(sign(tbs))
    for position, part in enumerate((univ.Any(tbs), univ.Any(algorithm or old), signature)):
        sequence.setComponentByPosition(position, part)
    return bytes(encoder.encode(sequence))


# Changes that cases make


def put(offset: int, data: bytes) -> Callable[[bytes], bytes]:
    """A change to a finished report."""
    return lambda report: report[:offset] + data + report[offset + len(data) :]


def without(*oids: str) -> Callable[[list[Extension]], list[Extension]]:
    """Leaves extensions of a leaf out."""
    return lambda extensions: [extension for extension in extensions if extension.oid not in oids]


def with_value(oid: str, value: bytes) -> Callable[[list[Extension]], list[Extension]]:
    """A change to the content of one of AMD's extensions."""
    return lambda extensions: [Extension(e.oid, value) if e.oid == oid else e for e in extensions]


def and_also(*more: Extension) -> Callable[[list[Extension]], list[Extension]]:
    """More extensions at the end."""
    return lambda extensions: [*extensions, *more]


# The test PKI


@cache
def ca(
    product: Product,
    authority: Authority,
    keys: Product | None = None,
    root_keys: Product | None = None,
    not_after: datetime | None = None,
) -> bytes:
    """A CA certificate; `keys` and `root_keys` name the product whose keys stand behind its name."""
    keys = keys or product
    root_key = ca_key(root_keys or keys, Authority.ARK)
    made = sim_pki.ca_certificate(
        authority,
        product,
        key=ca_key(keys, authority),
        root_key=root_key,
        not_before=CA_START,
        not_after=not_after,
    )
    return resign(made.public_bytes(Encoding.DER), signer(root_key))


def crl(
    product: Product,
    *,
    revoked: Iterable[int] = (),
    start: datetime = CRL_START,
    days: int = 365,
    key: rsa.RSAPrivateKey | None = None,
) -> bytes:
    root_key = ca_key(product, Authority.ARK)
    made = sim_pki.revocation_list(
        product,
        root_key=root_key,
        this_update=start,
        next_update=start + timedelta(days=days),
        revoked=tuple(revoked),
    )
    return resign(made.public_bytes(Encoding.DER), signer(key or root_key))


def issuer(product: Product, authority: Authority, *, key: rsa.RSAPrivateKey | None = None) -> Issuer:
    name = sim_pki.distinguished_name(authority.common_name(product)).public_bytes()
    return Issuer(name, signer(key or ca_key(product, authority)))


# One case


Extensions = list[Extension]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A good case unless its fields say otherwise; ``replace`` and the callables make the bad ones.

    Attributes:
        failed: ids of the failed checks; none means accepted.
        verdict: only where it does not follow from `failed`.
        machine: name of the machine.
        signing_key: whose certificate it is, and which key signs.
        report: changes to the report's fields.
        tcb: the TCB in the certificate, None for REPORTED_TCB.
        key_tcb: the TCB whose key signs, None for REPORTED_TCB.
        hwid: chip id in the certificate (and in the report), None for one that follows from the machine.
        vek: changes to the certificate's fields.
        extensions: changes to the certificate's extensions.
        issuer: who signs the certificate.
        cas: CA certificates by role, None for the whole chain of the machine.
        crl: None for no CRL.
        finish: changes to the finished report.
    """

    name: str
    description: str
    failed: tuple[str, ...] = ()
    verdict: str = ""
    machine: str = "Milan"
    version: int = 3
    signing_key: SigningKey = SigningKey.VCEK
    report: dict[str, Any] = field(default_factory=dict)
    tcb: Tcb | None = None
    key_tcb: bytes | None = None
    hwid: bytes | None = None
    hwid_in_der: bool = False
    vek: dict[str, Any] = field(default_factory=dict)
    extensions: Callable[[Extensions], Extensions] = list
    issuer: Issuer | None = None
    cas: dict[str, bytes] | None = None
    crl: bytes | None = None
    finish: Callable[[bytes], bytes] = bytes
    revocation: str = "if-present"
    product: str | None = None
    simulated_root: bytes | None = None
    at: datetime = AT

    @property
    def authority(self) -> Authority:
        return Authority.ASVK if self.signing_key is SigningKey.VLEK else Authority.ASK

    def fields(self) -> ReportFields:
        machine = MACHINES[self.machine]
        vlek = self.signing_key is SigningKey.VLEK
        base = machine_fields(machine, self.version if 2 <= self.version <= 5 else 5, b"" if vlek else self.chip_id())
        plain: dict[str, Any] = {
            "version": self.version,
            "measurement": MEASUREMENT,
            "report_data": REPORT_DATA,
            "report_id": hashlib.sha256(self.name.encode()).digest(),
            "signing_key": self.signing_key,
        }
        return replace(base, **(plain | self.report))

    def secret(self) -> bytes:
        return hashlib.sha256(f"dokimos test chip {self.machine}".encode()).digest()

    def chip_id(self) -> bytes:
        return self.hwid or derive_chip_id(self.secret(), MACHINES[self.machine].product)

    def leaf(self, fields: ReportFields, key: ec.EllipticCurvePrivateKey) -> bytes:
        machine = MACHINES[self.machine]
        vlek = self.signing_key is SigningKey.VLEK
        extensions = sim_pki.vek_extensions(
            product_name=machine.product if vlek else machine.product_name,
            tcb=self.tcb or Tcb.from_bytes(fields.reported_tcb, machine.product),
            hwid=None if vlek else self.chip_id(),
            csp_id=CSP_ID if vlek else None,
            hwid_in_der=self.hwid_in_der,
        )
        plain = VekFields(
            subject_cn=f"SEV-{self.signing_key.name}",
            public_key=key.public_key(),
            not_before=VEK_START,
            not_after=VEK_START + timedelta(days=sim_pki.VEK_DAYS[self.signing_key]),
            extensions=self.extensions(extensions),
        )
        signed_by = self.issuer or issuer(machine.product, self.authority)
        return sim_pki.write_vek(replace(plain, **self.vek), signed_by)

    def files(self) -> dict[str, bytes]:
        product = MACHINES[self.machine].product
        fields = self.fields()
        label = self.signing_key.name
        key = derive_key(self.secret(), label, self.key_tcb or fields.reported_tcb)
        # The certificate's key is the one for the TCB that it names, whichever key signs the report.
        named = self.tcb.to_bytes() if self.tcb else fields.reported_tcb
        vek = self.leaf(fields, derive_key(self.secret(), label, named))
        cas = self.cas
        if cas is None:
            cas = {role: ca(product, role) for role in (self.authority, Authority.ARK)}
        found = {"report": self.finish(write_report(fields, key, deterministic=True)), "vek": vek}
        found |= {str(role): cas[role] for role in sorted(cas)}
        return found | ({"crl": self.crl} if self.crl else {})

    def manifest(self, files: dict[str, bytes]) -> dict[str, object]:
        product = MACHINES[self.machine].product
        root = self.simulated_root or ca(product, Authority.ARK)
        manifest: dict[str, object] = {
            "description": self.description,
            "at": f"{self.at:%Y-%m-%dT%H:%M:%SZ}",
            "simulated_root": hashlib.sha256(root).hexdigest(),
            "revocation": self.revocation,
        }
        if self.product:
            manifest["product"] = self.product
        verdict = self.verdict or ("rejected" if self.failed else "accepted")
        return manifest | {
            "files": {role: file_name(role) for role in files},
            "expected": {"verdict": verdict, "failed": list(self.failed)},
        }


def file_name(role: str) -> str:
    return "report.bin" if role == "report" else f"{role}.der"


def load_cases(generator: ModuleType | None = None) -> list[Case]:
    """The cases of both files; they get this very module, so that there is one Case class only."""
    cases: list[Case] = []
    for name in ("snp_cases", "snp_report_cases"):
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        cases += module.cases(generator or sys.modules[__name__])
    assert len({case.name for case in cases}) == len(cases)
    return cases


def generate() -> dict[str, bytes]:
    """Content of every vector file by its path below ``tests/vectors/snp``."""
    found: dict[str, bytes] = {}
    for case in load_cases():
        files = case.files()
        found |= {f"{case.name}/{file_name(role)}": data for role, data in files.items()}
        found[f"{case.name}/manifest.json"] = json.dumps(case.manifest(files), indent=1).encode() + b"\n"
    return found


def main() -> None:
    for name, data in generate().items():
        path = VECTORS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    main()
