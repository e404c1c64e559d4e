"""Tokens as NVIDIA's attestation service writes them, by keys of nobody; tests load it by path."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
ISSUER = "https://nras.attestation.nvidia.com"
KID = "nv-eat-kid-prod-20260701000000000-00000000-0000-4000-8000-000000000000"
NONCE = bytes(range(32))
UEIDS = ("469625540032101286925165816344088050279536367439", "567356985522970179688793666587517399054479394829")


def b64(data):
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@cache
def rsa_key(n=0):
    """One of a few RSA keys."""
    return rsa.generate_private_key(65537, 2048)


def leaf_key(n=0):
    """One of many P-384 keys."""
    return ec.derive_private_key(1000 + n, ec.SECP384R1())


def name(common):
    """A name such as the service's certificates have."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test Corporation"),
        ]
    )


ABOVE = name("TEST Attestation Service Intermediate (SIMULATED)")
WINDOW = (NOW - timedelta(days=1), NOW + timedelta(days=1))
LONG = (NOW - timedelta(days=300), NOW + timedelta(days=900))


def usage(*, data=False, certificates=False):
    """Key usage."""
    return x509.KeyUsage(data, False, False, False, False, certificates, certificates, False, False)


def certificate(subject, issuer, key, by, window, usages, *, ca=False, digest=None):
    """A certificate in DER."""
    builder = x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=77,
        not_valid_before=window[0],
        not_valid_after=window[1],
    )
    builder = builder.add_extension(usages, critical=True)
    if ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(by, digest or hashes.SHA256()).public_bytes(Encoding.DER)


def intermediate(*, key=None, window=LONG, ca=True, usages=None):
    """The intermediate's certificate."""
    return certificate(
        ABOVE,
        name("TEST Attestation Service CA (SIMULATED)"),
        key or rsa_key(),
        leaf_key(99),
        window,
        usages or usage(certificates=True),
        ca=ca,
        digest=hashes.SHA384(),
    )


def leaf(*, key=None, by=None, issuer=ABOVE, window=WINDOW, usages=None, digest=None):
    """The certificate of a key."""
    subject = name("TEST Attestation Service (SIMULATED)")
    return certificate(
        subject, issuer, key or leaf_key(), by or rsa_key(), window, usages or usage(data=True), digest=digest
    )


def pin(key=None):
    """What a policy names of an intermediate."""
    spki = (key or rsa_key()).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()


def key_set(x5c=None, *, kid=KID, **more):
    """A key set with one key."""
    chain = [leaf(), intermediate()] if x5c is None else x5c
    entry = {"kid": kid, "kty": "EC", "crv": "P-384", "alg": "ES384", "use": "sig"}
    return json.dumps({"keys": [entry | {"x5c": [base64.b64encode(der).decode() for der in chain]} | more]}).encode()


def raw_signature(key, data, digest=None):
    """r and s."""
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(digest or hashes.SHA384())))
    return r.to_bytes(48, "big") + s.to_bytes(48, "big")


def sign(claims, *, key=None, header=None, signature=None):
    """A compact JWS."""
    protected = {"kid": KID, "alg": "ES384"} if header is None else header
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    text = f"{b64(json.dumps(protected).encode())}.{b64(payload)}"
    made = raw_signature(key or leaf_key(), text.encode()) if signature is None else signature
    return f"{text}.{b64(made)}"


def stamp(moment):
    """Seconds since 1970."""
    return int(moment.timestamp())


def device_claims(ueid=UEIDS[0], **more):
    """Claims of one device."""
    claims = {
        "iss": ISSUER,
        "eat_nonce": NONCE.hex(),
        "iat": stamp(NOW) - 60,
        "nbf": stamp(NOW) - 60,
        "exp": stamp(NOW) + 3540,
        "ueid": ueid,
        "hwmodel": "GH100 A01 GSP BROM",
        "measres": "success",
        "secboot": True,
        "dbgstat": "disabled",
        "x-nvidia-attestation-warning": None,
    }
    return claims | more


def digests(devices):
    """The overall token's claim about the others."""
    return {
        device: ["DIGEST", ["SHA-256", hashlib.sha256(token.encode()).hexdigest()]] for device, token in devices.items()
    }


def overall_claims(devices, **more):
    """Claims over all devices."""
    claims = {
        "sub": "NVIDIA-PLATFORM-ATTESTATION",
        "x-nvidia-ver": "3.0",
        "iss": ISSUER,
        "eat_nonce": NONCE.hex(),
        "iat": stamp(NOW) - 60,
        "nbf": stamp(NOW) - 60,
        "exp": stamp(NOW) + 3540,
        "x-nvidia-overall-att-result": True,
        "submods": digests(devices),
    }
    return claims | more


def answer(ueids=UEIDS, *, device=None, overall=None, devices=None, sign_overall=sign):
    """An answer about these devices; changes of claims are given for devices and for all."""
    tokens = devices or {f"GPU-{n}": sign(device_claims(ueid, **(device or {}))) for n, ueid in enumerate(ueids)}
    return json.dumps([["JWT", sign_overall(overall_claims(tokens, **(overall or {})))], tokens]).encode()
