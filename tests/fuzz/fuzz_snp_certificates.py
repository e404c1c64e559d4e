"""Any bytes are a leaf, a CA certificate, a CRL, a PEM file, or one of our errors."""

from __future__ import annotations

import base64
import contextlib
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from dokimos.attest import sim_pki
from dokimos.codec import pem_or_der
from dokimos.endorsements.ca import parse_ca, parse_crl
from dokimos.endorsements.vek import parse_vek
from dokimos.errors import Error
from dokimos.evidence.snp import Product, Tcb

_START = datetime(2026, 1, 1, tzinfo=UTC)
_END = datetime(2033, 1, 1, tzinfo=UTC)
_KEY = Path(__file__).resolve().parent.parent / "generate/keys/milan-ark.pem"


def _unsigned(signed: bytes) -> bytes:
    """With zeros for the signature, whose salt is random; nobody looks at it when parsing."""
    return signed[:-512] + bytes(512)


def _leaf(product: Product, cn: str, tcb: bytes, **fields: object) -> bytes:
    levels = Tcb.from_bytes(tcb, product)
    extensions = sim_pki.vek_extensions(product_name=product, tcb=levels, **fields)
    key = ec.derive_private_key(7, ec.SECP384R1()).public_key()
    issuer = sim_pki.Issuer(sim_pki.distinguished_name(f"SEV-{product}").public_bytes(), lambda _: bytes(512))
    return sim_pki.write_vek(
        sim_pki.VekFields(subject_cn=cn, public_key=key, not_before=_START, not_after=_END, extensions=extensions),
        issuer,
    )


def _cas() -> list[bytes]:
    key = load_pem_private_key(_KEY.read_bytes(), None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("the test key is no RSA key")
    authorities = (sim_pki.Authority.ARK, sim_pki.Authority.ASK)
    made = [
        sim_pki.ca_certificate(authority, Product.MILAN, key=key, root_key=key, not_before=_START).public_bytes(
            Encoding.DER
        )
        for authority in authorities
    ]
    crl = sim_pki.revocation_list(Product.MILAN, root_key=key, this_update=_START, revoked=(0x10001,))
    return [_unsigned(data) for data in (*made, crl.public_bytes(Encoding.DER))]


_VCEK = _leaf(Product.MILAN, "SEV-VCEK", bytes.fromhex("04000000000018db"), hwid=bytes(range(64)))
SEEDS: list[bytes] = [
    _VCEK,
    _leaf(Product.MILAN, "SEV-VLEK", bytes.fromhex("04000000000018db"), csp_id="CN=example.invalid"),
    _leaf(Product.TURIN, "SEV-VCEK", bytes.fromhex("0102030400000055"), hwid=bytes(range(8)), hwid_in_der=True),
    *_cas(),
    b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(_VCEK) + b"-----END CERTIFICATE-----\n",
]


def one_input(data: bytes) -> None:
    """Every reader of certificates gets the same bytes."""
    for parse in (parse_vek, parse_ca, parse_crl):
        with contextlib.suppress(Error):
            parse(data)
    with contextlib.suppress(Error):
        pem_or_der(data, "certificate")
