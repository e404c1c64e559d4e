"""The collateral of one platform in one file or folder: bodies, issuer chains and lists, byte for byte as received."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MAX_BUNDLE = 8 << 20
"""Largest bundle in bytes that is read; real ones have 20 to 50 KiB."""
FORMAT = "dokimos.tdx-collateral/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where one item came from; for the reader only, nothing is believed because of it.

    Attributes:
        item: name of the field of :class:`TdxCollateral`.
        url: address without credentials.
        fetched: RFC 3339 time at which it was fetched.
    """

    item: str
    url: str
    fetched: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxCollateral:
    """What a verifier needs beside a quote, as received; nothing is verified here.

    Attributes:
        tcb_info: body of the TCB info.
        tcb_info_chain: its issuer chain: the header's value as received (URL-encoded PEM) or PEM; signer first.
        qe_identity: body of the identity of the quoting enclave.
        qe_identity_chain: its issuer chain, likewise.
        pck_crl: revocation list of the CA that issued the PCK certificate: DER, hex of DER, or PEM.
        pck_crl_chain: its issuer chain, likewise; empty if it did not come along (a quote holds the same CA).
        root_crl: revocation list of the root: DER, hex of DER, or PEM.
        pck_chain: PEM of PCK certificate and CAs for a quote that brings none, or None.
        origins: where the items came from, by the order of the fields; empty where nothing is known.
    """

    tcb_info: bytes
    tcb_info_chain: bytes
    qe_identity: bytes
    qe_identity_chain: bytes
    pck_crl: bytes
    pck_crl_chain: bytes
    root_crl: bytes
    pck_chain: bytes | None = None
    origins: tuple[Origin, ...] = ()


def chain_certificates(chain: bytes, what: str) -> tuple[bytes, ...]:
    """DER certificates of an issuer chain: URL-encoded PEM as in a header, or PEM; bytes behind the last are ignored.

    Raises:
        MalformedEvidence: no certificate, more than 4, or broken base64.
    """
    raise NotImplementedError


def crl_der(crl: bytes, what: str) -> bytes:
    """DER of a revocation list that came as DER, as hex of DER, or as PEM.

    Raises:
        MalformedEvidence: none of these.
    """
    raise NotImplementedError


def parse_collateral(data: bytes) -> TdxCollateral:
    """Read a bundle of ours, or the JSON document that dcap-qvl keeps collateral in.

    Raises:
        MalformedEvidence: neither, too large, or an item missing, twice or of a wrong form.
    """
    raise NotImplementedError


def encode_collateral(collateral: TdxCollateral) -> bytes:
    """The bundle file of this collateral; equal collateral gives equal bytes."""
    raise NotImplementedError


def collateral_from_files(files: Mapping[str, bytes]) -> TdxCollateral:
    """Collateral from the files of a folder, by their names.

    Raises:
        MaterialUnavailable: an item is in no file.
        MalformedEvidence: a file is not what its name says.
    """
    raise NotImplementedError
