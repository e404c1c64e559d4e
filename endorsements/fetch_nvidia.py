"""Fetches what a verifier of NVIDIA's devices needs: manifests (RIMs), revocation lists, OCSP answers, tokens and keys.

Nothing that comes is verified here, but nothing is taken that answers another question.  Sources: NVIDIA's RIM service
v1, its attestation service v4 (NRAS), RFC 6960 A.1 for OCSP over HTTP, and the addresses in NVIDIA's certificates.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain as _joined
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from ..codec import pem_or_der
from ..errors import Error, MalformedEvidence, MaterialUnavailable, UnsupportedEvidence, UsageError
from ..evidence.gpu_arch import Arch, Kind
from ..evidence.gpu_evidence import GpuEvidence
from ..evidence.gpu_report import parse_gpu_report
from .ca import MAX_CRL, parse_crl
from .gpu_certificate import GpuCertificate, parse_gpu_certificate, split_chain
from .nras import MAX_ANSWER, MAX_KEY_SET, parse_nras, parse_nras_keys
from .ocsp import MAX_OCSP, NONCE_SIZE, ocsp_request, parse_ocsp
from .rim import parse_rim, rim_ids
from .rim_store import RIM_ID, parse_rim_answer
from .signed_json import Fields, load_json
from .status_points import DEVICE_INDEXES, RIM_INDEXES, status_points
from .transport import OK, Reply, Transport, base_url

RIM_SERVICE: Final = "https://rim.attestation.nvidia.com"
OCSP_SERVICE: Final = "https://ocsp.ndis.nvidia.com"
NRAS_SERVICE: Final = "https://nras.attestation.nvidia.com"
CRL_HOST: Final = "crl.ndis.nvidia.com"
"""The one server that the distribution points of NVIDIA's certificates name."""
SERVICE_KEY: Final = "NVIDIA_ATTESTATION_SERVICE_KEY"
"""Variable with a key of a customer, which NVIDIA's own tools read too; the services answer without one as well."""

_MAX_IDS: Final = 1 << 16
_MAX_EVIDENCE: Final = 64
_KEY: Final = re.compile(r"[!-~]{1,4096}")
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9.]+")
_REFUSALS: Final = {
    400: "does not take this request",
    401: f"wants a key: set {SERVICE_KEY}",
    403: f"does not allow this request; a key in {SERVICE_KEY} may help",
    404: "does not know this",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A live OCSP answer.

    Attributes:
        data: in DER.
        nonce: that the request had, and the answer too.
    """

    data: bytes
    nonce: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedGpuMaterial:
    """What was fetched for some devices.

    Attributes:
        files: by name: ``<id>.xml`` for manifests, ``*.crl`` for lists and ``*.ocsp`` for answers, in DER.
        live_nonces: nonce of the request by SHA-256 of the answer.
    """

    files: Mapping[str, bytes]
    live_nonces: Mapping[bytes, bytes]


class NvidiaFetcher:
    """Fetches over HTTP.

    Args:
        rim_url: address of the service for manifests, or of a mirror of it.
        ocsp_url: address of the OCSP responder, or of a cache of it.
        nras_url: address of the remote attestation service.
        crl_url: address under which revocation lists lie by the paths that certificates name; None takes the very
            addresses in the certificates, and only those of NVIDIA's server.
        environ: variables of the process, for the key of a customer.
        timeout: seconds in which an answer must have come in full.
        pause: waits some seconds between two tries.
        random: makes nonces.

    Raises:
        UsageError: not a usable address, or a key that cannot be sent, or would be sent in the clear.
    """

    def __init__(
        self,
        *,
        rim_url: str = RIM_SERVICE,
        ocsp_url: str = OCSP_SERVICE,
        nras_url: str = NRAS_SERVICE,
        crl_url: str | None = None,
        environ: Mapping[str, str] = os.environ,
        timeout: float = 30.0,
        pause: Callable[[float], None] = time.sleep,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        key = environ.get(SERVICE_KEY, "")
        if key and not _KEY.fullmatch(key):
            raise UsageError(f"{SERVICE_KEY} is no key: only printable ASCII without spaces can be sent")
        self._rim = _base(rim_url.rstrip("/").removesuffix("/v1/rim"), "a RIM service", key)
        self._ocsp = _base(ocsp_url, "an OCSP responder", key)
        self._nras = _base(nras_url, "an attestation service", key)
        self._crl = _base(crl_url, "a store of revocation lists", "") if crl_url is not None else None
        self._key = {"Authorization": f"Bearer {key}"} if key else {}
        self._transport = Transport(timeout=timeout, pause=pause)
        self._random = random

    def rim(self, rim_id: str) -> bytes:
        """A manifest by its id: the XML document.

        Raises:
            MaterialUnavailable: the service has none of this id, does not answer, or answers with something else.
        """
        if not RIM_ID.fullmatch(rim_id):
            raise MaterialUnavailable(f"{rim_id[:80]!r} is no id of a RIM")
        url = f"{self._rim}/v1/rim/{rim_id}"
        reply = self._transport.ask(url, headers=self._key)
        if reply.status == 404:
            raise MaterialUnavailable(f"{url}: the service has no RIM of the id {rim_id}")
        with _Answer(url, reply):
            return parse_rim_answer(reply.body, rim_id).data

    def rim_ids(self) -> tuple[str, ...]:
        """The ids of all manifests that the service has, of devices of any kind.

        Raises:
            MaterialUnavailable: the service does not answer, or answers with something else.
        """
        url = f"{self._rim}/v1/rim/ids"
        reply = self._transport.ask(url, headers=self._key, limit=8 << 20)
        with _Answer(url, reply):
            what = "list of RIM ids"
            return Fields(load_json(reply.body, what, 8 << 20), what).texts("ids", _MAX_IDS)

    def crl(self, url: str) -> bytes:
        """A revocation list by the address in a certificate, in DER.

        Raises:
            MaterialUnavailable: an address of another server than NVIDIA's, no answer, or no list.
        """
        target = self._crl_target(url)
        reply = self._transport.ask(target, limit=2 * MAX_CRL)
        with _Answer(target, reply):
            (der, *more) = pem_or_der(reply.body, "CRL", "X509 CRL")
            if more:
                raise MalformedEvidence("CRL: several lists at one address")
            parse_crl(der)
            return der

    def _crl_target(self, url: str) -> str:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if host is None or parts.scheme not in ("http", "https") or parts.username is not None or parts.query:
            raise MaterialUnavailable(f"a certificate names {url[:200]!r} for its revocation list, which is no address")
        if self._crl is not None:
            return self._crl + parts.path
        if host != CRL_HOST or port not in (None, 80, 443):
            raise MaterialUnavailable(
                f"a certificate names {url[:200]!r} for its revocation list; only lists of {CRL_HOST} are fetched"
            )
        return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))

    def ocsp(self, certificate: GpuCertificate, issuer: GpuCertificate) -> Answered:
        """A live answer about a certificate; its signature and status are for the verifier.

        Raises:
            MaterialUnavailable: the responder does not answer, not about this certificate, or not to this request.
        """
        nonce = self._random(NONCE_SIZE)
        name, key = status_points(issuer.raw, "certificate").subject, b"\x04" + issuer.public_point
        request = ocsp_request(issuer=name, key=key, serial=certificate.serial, nonce=nonce)
        headers = {"Content-Type": "application/ocsp-request", **self._key}
        url = f"{self._ocsp}/"
        reply = self._transport.ask(url, post=request, headers=headers, limit=MAX_OCSP)
        with _Answer(f"{url} about {certificate.subject_cn!r}", reply):
            answer = parse_ocsp(reply.body)
            about = [single for single in answer.singles if single.serial == certificate.serial]
            if not any(single.names(name) and single.keyed(key) for single in about):
                raise MaterialUnavailable(f"{url}: the answer is not about {certificate.subject_cn!r}")
            if answer.nonce != nonce:
                raise MaterialUnavailable(f"{url}: the answer about {certificate.subject_cn!r} is to another request")
        return Answered(data=reply.body, nonce=nonce)

    def nras(self, devices: Sequence[GpuEvidence]) -> bytes:
        """The attestation service's answer about devices of one architecture that carry one nonce.

        This hands the devices' evidence to NVIDIA.

        Raises:
            UsageError: no device, or devices of several architectures or nonces.
            MaterialUnavailable: the service does not answer, or with something else.
        """
        first = {(device.arch, device.nonce) for device in devices}
        if len(first) != 1 or len(devices) > _MAX_EVIDENCE:
            raise UsageError("the attestation service takes devices of one architecture that carry one nonce")
        ((arch, nonce),) = first
        body = {
            "nonce": nonce.hex(),
            "arch": str(arch),
            "claims_version": "3.0",
            "evidence_list": [
                {"evidence": _base64(device.report), "certificate": _base64(device.chain)} for device in devices
            ],
        }
        url = f"{self._nras}/v4/attest/{'switch' if arch.kind is Kind.SWITCH else 'gpu'}"
        headers = {"Content-Type": "application/json", "Accept": "application/json", **self._key}
        reply = self._transport.ask(url, post=json.dumps(body).encode(), headers=headers, limit=MAX_ANSWER)
        with _Answer(url, reply):
            parse_nras(reply.body)
        return reply.body

    def nras_keys(self) -> bytes:
        """The attestation service's key set (JWKS).

        Raises:
            MaterialUnavailable: the service does not answer, or with something else.
        """
        url = f"{self._nras}/.well-known/jwks.json"
        reply = self._transport.ask(url, headers=self._key, limit=MAX_KEY_SET)
        with _Answer(url, reply):
            parse_nras_keys(reply.body)
        return reply.body


class _Answer:
    """That a service answered, and that what it answered can be read; whatever cannot be read is not available.

    Args:
        url: what was asked, for the message.
        reply: what came.

    Raises:
        MaterialUnavailable: another status than 200; on leaving, if what was read is malformed or unsupported.
    """

    def __init__(self, url: str, reply: Reply) -> None:
        self._url = url
        if reply.status != OK:
            refusal = _REFUSALS.get(reply.status, "cannot answer")
            raise MaterialUnavailable(f"{url}: status {reply.status}: the service {refusal}")

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, exc: object, _where: object) -> None:
        if isinstance(exc, MalformedEvidence | UnsupportedEvidence):
            raise MaterialUnavailable(f"{self._url}: {exc}") from exc


def _base(url: str, what: str, key: str) -> str:
    scheme, host, path = base_url(url, what)
    if key and scheme != "https" and urlsplit(url).hostname not in _LOOPBACK:
        raise UsageError(f"{SERVICE_KEY} is set, and would go to {url!r} in the clear")
    return urlunsplit((scheme, host, path, "", ""))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def fetch_gpu_material(
    devices: Iterable[GpuEvidence],
    fetcher: NvidiaFetcher,
    *,
    crl: bool = True,
    ocsp: bool = True,
    have: Mapping[str, bytes] = MappingProxyType({}),
) -> FetchedGpuMaterial:
    """Everything that a verifier needs beside the evidence of these devices; nothing of it is verified here.

    Args:
        devices: name their manifests by their reports, and their lists by their certificates.
        fetcher: where it comes from.
        crl: revocation lists too, of devices and of the manifests' signers.
        ocsp: OCSP answers too, likewise.
        have: manifests that are at hand already, by id; they are not fetched, but their signers are looked up.

    Raises:
        MaterialUnavailable: something is not to be had; the message has the ids of all manifests that are missing.
        MalformedEvidence: a report or a certificate of a device cannot be read.
        UnsupportedEvidence: a device that is not supported.
    """
    devices = tuple(devices)
    chains = [(_parsed(split_chain(device.chain)), DEVICE_INDEXES) for device in devices]
    rims = _rims(devices, [chain for chain, _ in chains], fetcher, have)
    for name, data in (*have.items(), *rims.items()):
        try:
            chains.append((_parsed(parse_rim(data).certificates), RIM_INDEXES))
        except (MalformedEvidence, UnsupportedEvidence) as exc:
            raise MaterialUnavailable(f"{name}: {exc}") from exc
    pairs = dict(_joined.from_iterable(_pairs(chain, indexes) for chain, indexes in chains))
    lists = _lists(pairs, fetcher) if crl else {}
    answers = {_name(certificate): fetcher.ocsp(certificate, issuer) for certificate, issuer in pairs.items() if ocsp}
    files = {**rims, **lists, **{name: answer.data for name, answer in answers.items()}}
    nonces = {parse_ocsp(answer.data).sha256: answer.nonce for answer in answers.values()}
    return FetchedGpuMaterial(files=files, live_nonces=nonces)


def _parsed(certificates: Iterable[bytes]) -> tuple[GpuCertificate, ...]:
    return tuple(parse_gpu_certificate(der, f"certificate {n}") for n, der in enumerate(certificates))


def _pairs(chain: tuple[GpuCertificate, ...], indexes: Iterable[int]) -> list[tuple[GpuCertificate, GpuCertificate]]:
    """Certificates that are looked up, with their issuers; a chain that is too short fails when it is verified."""
    return [(chain[index], chain[index + 1]) for index in indexes if index + 1 < len(chain)]


def _rims(
    devices: Sequence[GpuEvidence],
    chains: Sequence[tuple[GpuCertificate, ...]],
    fetcher: NvidiaFetcher,
    have: Collection[str],
) -> dict[str, bytes]:
    """Every manifest that a device needs, each asked for once; one look tells all that are missing."""
    found: dict[str, bytes] = {}
    missing: list[Error] = []
    needs = [
        need.id
        for device, chain in zip(devices, chains, strict=True)
        for need in rim_ids(parse_gpu_report(device.report, device.arch.kind), _chip(chain[0], device.arch))
    ]
    for rim_id in dict.fromkeys(needs):
        if rim_id in have:
            continue
        try:
            found[f"{rim_id}.xml"] = fetcher.rim(rim_id)
        except MaterialUnavailable as exc:
            missing.append(exc)
    if missing:
        raise MaterialUnavailable("; ".join(map(str, missing)))
    return found


def _chip(leaf: GpuCertificate, arch: Arch) -> str:
    """The chip by the first word of the device's common name ("GH100 A01 GSP FMC LF", "LS_10 A01 FSP FMC LF")."""
    chip = leaf.subject_cn.partition(" ")[0].replace("_", "")
    if not chip:
        raise MalformedEvidence(f"the certificate of a device of {arch} does not name its chip")
    return chip


def _lists(pairs: Mapping[GpuCertificate, GpuCertificate], fetcher: NvidiaFetcher) -> dict[str, bytes]:
    urls = [url for certificate in pairs for url in status_points(certificate.raw, certificate.subject_cn).crl_urls]
    return {_list_name(url): fetcher.crl(url) for url in dict.fromkeys(urls)}


def _list_name(url: str) -> str:
    path = _NOT_IN_NAMES.sub("-", urlsplit(url).path.removesuffix(".crl")).strip("-.")
    return f"{path[-100:] or 'list'}.crl"


def _name(certificate: GpuCertificate) -> str:
    words = _NOT_IN_NAMES.sub("-", certificate.subject_cn).strip("-.")
    return f"{words[:60]}-{certificate.sha256.hex()[:16]}.ocsp"
