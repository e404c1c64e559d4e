"""Fetches collateral from Intel's provisioning service (PCS v4) or a cache of it (PCCS).

Source: Intel, "API portal, provisioning certification service v4", and the PCCS design guide for ``/rootcacrl``.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal, Protocol
from urllib.parse import urlencode, urlunsplit

from ..codec import pem_or_der
from ..errors import Check, MalformedEvidence, MaterialUnavailable, UnsupportedEvidence, UsageError
from ..evidence.tdx import CertificationType, TdQuote
from .ca import parse_crl
from .collateral import EvaluationNumbers, parse_evaluation_numbers, parse_qe_identity, parse_tcb_info
from .collateral_bundle import MAX_CHAIN, Origin, TdxCollateral, chain_certificates, crl_der
from .pck import Pck, parse_pck
from .pcs_cache import DAY, PcsCache, Response, rfc3339
from .transport import OK, Reply, Transport, base_url

INTEL_PCS: Final = "https://api.trustedservices.intel.com"
INTEL_ROOT_CRL: Final = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"

TCB_INFO: Final = "/tdx/certification/v4/tcb"
QE_IDENTITY: Final = "/tdx/certification/v4/qe/identity"
EVALUATION_NUMBERS: Final = "/tdx/certification/v4/tcbevaluationdatanumbers"
PCK_CRL: Final = "/sgx/certification/v4/pckcrl"
ROOT_CRL: Final = "/sgx/certification/v4/rootcacrl"
_HEADERS: Final = {
    TCB_INFO: "tcb-info-issuer-chain",
    QE_IDENTITY: "sgx-enclave-identity-issuer-chain",
    EVALUATION_NUMBERS: "tcb-evaluation-data-numbers-issuer-chain",
    PCK_CRL: "sgx-pck-crl-issuer-chain",
}
"""The header with the issuer chain, of each path that has one."""
_SELECTED: Final = (TCB_INFO, QE_IDENTITY)
"""Paths that take `update` or `tcbEvaluationDataNumber`."""

Update = Literal["early", "standard"]


class Fetcher(Protocol):
    """Where collateral comes from."""

    def get(self, path: str, params: Mapping[str, str]) -> Response:
        """The answer to one request.

        Args:
            path: path of the service, one of those above.
            params: query parameters.

        Raises:
            MaterialUnavailable: there is none.
        """
        ...


def _now() -> datetime:
    return datetime.now(UTC)


class PcsFetcher:
    """Fetches over HTTP.

    Args:
        base_url: scheme, host and port of PCS or PCCS, with or without the ``/sgx/certification/v4`` that Intel's own
            settings of a PCCS have.
        cache: folder in which answers are kept, or None to ask each time.
        update: "early" for what Intel wants before the deadline of a recovery of the TCB, "standard" for what it wants
            after; None for the service's default, which is standard.
        evaluation_data_number: ask for the collateral of exactly this recovery; excludes `update`.
        timeout: seconds in which an answer must have come in full.
        longest: how long an answer is taken from the cache at most.
        clock: gives the time, by which the cache is judged.
        pause: waits some seconds between two tries.

    Raises:
        UsageError: not a usable address, or both `update` and `evaluation_data_number`.
    """

    def __init__(
        self,
        base_url: str = INTEL_PCS,
        *,
        cache: Path | None = None,
        update: Update | None = None,
        evaluation_data_number: int | None = None,
        timeout: float = 30.0,
        longest: timedelta = DAY,
        clock: Callable[[], datetime] = _now,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        if update is not None and evaluation_data_number is not None:
            raise UsageError("an update and an evaluation data number exclude each other")
        self._base = _base(base_url)
        self._cache = PcsCache(cache, longest) if cache is not None else None
        self._selection: dict[str, str] = {"update": update} if update else {}
        self._number = evaluation_data_number
        if evaluation_data_number is not None:
            self._selection = {"tcbEvaluationDataNumber": str(evaluation_data_number)}
        self._clock = clock
        self._transport = Transport(timeout=timeout, pause=pause)

    def get(self, path: str, params: Mapping[str, str]) -> Response:
        """The answer to one request, from the cache while it holds.

        Raises:
            MaterialUnavailable: no answer, or one that is too long, too late, cut off, or lacks its issuer chain.
        """
        url = self._url(path, params)
        now = self._clock()
        cached = self._cache.get(url, now) if self._cache else None
        if cached is not None:
            return cached
        body, chain = _accept(self._transport.ask(url), path, url)
        name = _HEADERS.get(path)
        headers = {name: chain} if name else {}
        response = Response(body=body, headers=headers, url=url, fetched=now.replace(microsecond=0))
        holds_until = self._check(path, params, response)
        if self._cache:
            self._cache.put(response, holds_until)
        return response

    def _check(self, path: str, params: Mapping[str, str], answer: Response) -> datetime:
        """That an answer is what was asked for, and until when it holds; a cache must not keep anything else."""
        number: int | None = self._number
        try:
            if path == TCB_INFO:
                info = parse_tcb_info(answer.body)
                if (info.id, info.fmspc.hex()) != ("TDX", params["fmspc"]):
                    raise MaterialUnavailable(f"{answer.url}: answers with {info.id} {info.fmspc.hex()}")
                found, holds_until = info.evaluation_data_number, info.next_update
            elif path == QE_IDENTITY:
                identity = parse_qe_identity(answer.body)
                found, holds_until = identity.evaluation_data_number, identity.next_update
            elif path == EVALUATION_NUMBERS:
                return parse_evaluation_numbers(answer.body).next_update
            else:
                return parse_crl(crl_der(answer.body, "CRL")).next_update
        except (MalformedEvidence, UnsupportedEvidence) as exc:
            raise MaterialUnavailable(f"{answer.url}: {exc}") from exc
        if number not in (None, found):
            raise MaterialUnavailable(f"{answer.url}: answers with evaluation data number {found}")
        return holds_until

    def _url(self, path: str, params: Mapping[str, str]) -> str:
        if path == ROOT_CRL and self._base == INTEL_PCS:
            return INTEL_ROOT_CRL  # PCS itself has no such path
        query = dict(params) | (self._selection if path in _SELECTED else {})
        return f"{self._base}{path}" + (f"?{urlencode(query)}" if query else "")


def _base(url: str) -> str:
    scheme, host, path = base_url(url, "a provisioning service")
    path = path.removesuffix("/v3").removesuffix("/v4").removesuffix("/sgx/certification")
    return urlunsplit((scheme, host, path, "", ""))


def _accept(reply: Reply, path: str, url: str) -> tuple[bytes, str]:
    """Body and issuer chain."""
    if reply.status != OK:
        raise MaterialUnavailable(f"{url}: {_refusal(reply.status, path)}")
    return reply.body, _chain(reply.headers, path, url)


def _refusal(status: int, path: str) -> str:
    what = {TCB_INFO: "this FMSPC", PCK_CRL: "this CA"}.get(path, "this")
    known = {
        400: "does not take this request",
        401: "wants credentials, which are not sent",
        403: "does not allow this request",
        404: f"does not know {what}",
        410: "no longer serves this evaluation data number",
    }
    return f"status {status}: the service {known.get(status, 'cannot answer')}"


def _chain(headers: Mapping[str, str], path: str, url: str) -> str:
    name = _HEADERS.get(path)
    chain = headers.get(name, "") if name else ""
    if name and not 0 < len(chain) <= MAX_CHAIN:
        raise MaterialUnavailable(f"{url}: the answer has no usable header {name}")
    if not chain.isascii():
        raise MaterialUnavailable(f"{url}: header {name} is not ASCII")
    return chain


def fetch_collateral(quote: TdQuote, fetcher: Fetcher, *, pck_chain: bytes | None = None) -> TdxCollateral:
    """Everything that a verifier needs beside this quote; nothing of it is verified here.

    Args:
        quote: names its platform by the PCK certificate that came with it.
        fetcher: where the collateral comes from.
        pck_chain: PEM of PCK certificate, CA and root; only looked at for a quote that brings no PCK certificate.

    Raises:
        MaterialUnavailable: there is no PCK certificate, the service does not answer, or it answers with something else
            than was asked for.
        MalformedEvidence: the PCK certificate is none (``tdx.pck.format``).
    """
    pck = _pck(quote, pck_chain)
    tcb_info = fetcher.get(TCB_INFO, {"fmspc": pck.fmspc.hex()})
    qe_identity = fetcher.get(QE_IDENTITY, {})
    pck_crl = fetcher.get(PCK_CRL, {"ca": str(pck.ca), "encoding": "der"})
    root_crl = fetcher.get(ROOT_CRL, {})
    _check_issuer(pck, pck_crl)
    crl_chain = _header(pck_crl, PCK_CRL)
    if quote.certification.type == CertificationType.PCK_CHAIN:
        pck_chain = None
    if quote.certification.type == CertificationType.PCK_LEAF:
        # The CA that signs the list is the one that signs the leaf.
        pck_chain = _pem((pck.raw, *chain_certificates(crl_chain, "issuer chain of the PCK CRL")))
    answers = {"tcb_info": tcb_info, "qe_identity": qe_identity, "pck_crl": pck_crl, "root_crl": root_crl}
    return TdxCollateral(
        tcb_info=tcb_info.body,
        tcb_info_chain=_header(tcb_info, TCB_INFO),
        qe_identity=qe_identity.body,
        qe_identity_chain=_header(qe_identity, QE_IDENTITY),
        pck_crl=pck_crl.body,
        pck_crl_chain=crl_chain,
        root_crl=root_crl.body,
        pck_chain=pck_chain,
        origins=tuple(
            Origin(item=item, url=answer.url, fetched=rfc3339(answer.fetched)) for item, answer in answers.items()
        ),
    )


def _pck(quote: TdQuote, pck_chain: bytes | None) -> Pck:
    """The PCK certificate that came with a quote, or the one that was given for a quote without one."""
    kind = quote.certification.type
    data = quote.certification.data
    if kind not in (CertificationType.PCK_LEAF, CertificationType.PCK_CHAIN):
        if pck_chain is None:
            raise MaterialUnavailable(
                f"the quote has certification data of type {kind}, which names the platform and holds no PCK "
                "certificate; Intel gives that one only to holders of a subscription key, and the platform's owner has "
                "it: give the PEM chain of PCK certificate, CA and root"
            )
        data = pck_chain
    try:
        found = pem_or_der(data, "PCK certificate")
    except MalformedEvidence as exc:
        raise MalformedEvidence(str(exc), check=Check.TDX_PCK_FORMAT) from exc
    return parse_pck(found[0])


def fetch_evaluation_numbers(fetcher: Fetcher) -> EvaluationNumbers:
    """The recoveries of the TCB that collateral is served for; nothing of it is verified here.

    Raises:
        MaterialUnavailable: the service does not answer, or with something else.
    """
    answer = fetcher.get(EVALUATION_NUMBERS, {})
    try:
        return parse_evaluation_numbers(answer.body)
    except (MalformedEvidence, UnsupportedEvidence) as exc:
        raise MaterialUnavailable(f"{answer.url}: {exc}") from exc


def _header(answer: Response, path: str) -> bytes:
    chain = answer.headers.get(_HEADERS[path])
    if not chain:
        raise MaterialUnavailable(f"{answer.url}: the answer has no header {_HEADERS[path]}")
    return chain.encode()


def _check_issuer(pck: Pck, answer: Response) -> None:
    try:
        crl = parse_crl(crl_der(answer.body, "PCK CRL"))
    except MalformedEvidence as exc:
        raise MaterialUnavailable(f"{answer.url}: {exc}") from exc
    if crl.issuer != pck.issuer:
        raise MaterialUnavailable(f"{answer.url}: answers with a list of {crl.issuer_cn!r}")


def _pem(certificates: tuple[bytes, ...]) -> bytes:
    text = ""
    for der in certificates:
        text += "-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der).decode() + "-----END CERTIFICATE-----\n"
    return text.encode()
