"""A pinned session: verify an endpoint, pin its keys, and only then send.

Every request looks at the pin again.  A key that is gone, or a statement that has expired, leads to a new verification
under the same policy or to an error; nothing is ever sent to a key that was not verified.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from ..endorsements.collateral_bundle import TdxCollateral
from ..errors import Check, CheckResult, MaterialUnavailable, Status, VerificationError
from ..evidence import bundle
from ..evidence.tdx import TdQuote, parse_quote
from ..ohttp import keys, ohttp
from ..verifier.bundle import VerifiedBundle, verify_bundle
from ..verifier.policy import Policy
from ..verifier.result import AttestationResult
from . import chat
from .transport import Reply, Transport

CHALLENGE_PATH = "/dokimos/v1/challenge"
GATEWAY_PATH = "/.well-known/ohttp-gateway"
"""Where the gateway takes requests and hands out its keys (RFC 9540 2)."""

_MAX_RESPONSE = 2 << 20
_NONCE = 32


def _now() -> datetime:
    return datetime.now(UTC)


def fetch_bundle(transport: Transport, nonce: bytes) -> bytes:
    """Ask a service for evidence over a nonce.

    Raises:
        MaterialUnavailable: no answer, or not the evidence.
    """
    reply = transport.post(CHALLENGE_PATH, nonce, "application/octet-stream", limit=bundle.MAX_SIZE)
    if reply.status != 200 or reply.media_type != bundle.MEDIA_TYPE:
        raise MaterialUnavailable(f"{transport.origin} gave no evidence (status {reply.status})")
    return reply.content


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnMaterial:
    """Vendors' material that a client has of its own.

    Attributes:
        rims: NVIDIA's reference integrity manifests, beside those that an endpoint brings.
        collateral: gets the collateral of the platform that signed a TDX quote, for an endpoint that brings none, such
            as :func:`dokimos.endorsements.fetch.fetch_collateral` with a fetcher that keeps answers; None: not at all.
    """

    rims: tuple[bytes, ...] = ()
    collateral: Callable[[TdQuote], TdxCollateral] | None = None


def verify_with(
    data: bytes, policy: Policy, own: OwnMaterial, *, clock: Callable[[], datetime], nonce: bytes | None
) -> VerifiedBundle:
    """Verify an evidence bundle with this client's own material where the endpoint brings none.

    Args:
        data: the bundle as received.
        policy: what the endpoint must be.
        own: the client's material.
        clock: gives the time of verification, aware; asked after everything was got, since collateral of this moment is
            not yet valid a moment before it was asked for.
        nonce: the 32 bytes that this client sent, or None.

    Raises:
        Error: as :func:`dokimos.verifier.bundle.verify_bundle`, and whatever getting collateral raises.
    """
    cpu = bundle.parse_bundle(data).cpu
    got = None
    if isinstance(cpu, bundle.TdxEvidence) and cpu.collateral is None and own.collateral is not None:
        got = own.collateral(parse_quote(cpu.quote))
    return verify_bundle(data, policy, at=clock(), nonce=nonce, more_rims=own.rims, collateral=got)


class Session:
    """A verified and pinned endpoint; :meth:`open` makes one.

    Attributes:
        url: origin of the service, or of the relay in front of it.
        result: result of the newest verification.
        verifications: how often the endpoint was verified; it grows when a key changed.
    """

    def __init__(
        self,
        transport: Transport,
        policy: Policy,
        authority: str,
        clock: Callable[[], datetime],
        own: OwnMaterial,
    ) -> None:
        self._transport = transport
        self._policy = policy
        self._authority = authority
        self._clock = clock
        self._own = own
        self.url = transport.origin
        self.verifications = 0
        self._pin = self._verify()

    @classmethod
    def open(
        cls,
        url: str,
        policy: Policy,
        *,
        relay: str | None = None,
        timeout: float = 120.0,
        clock: Callable[[], datetime] = _now,
        own: OwnMaterial | None = None,
    ) -> Self:
        """Fetch evidence over a fresh nonce, verify it, pin its keys.

        Args:
            url: origin of the service.
            policy: what the endpoint must be.
            relay: origin of a relay in front of it, over which everything then goes; None to connect directly.
            timeout: seconds for each answer.
            clock: gives the time of verification, aware.
            own: what this client has of vendors' material; None where the endpoint brings all that it takes.

        Raises:
            VerificationError: the endpoint is not what the policy demands; nothing was sent to it but the nonce.
            MalformedEvidence: its evidence cannot be read.
            UnsupportedEvidence: its evidence is of a kind that is not supported.
            MaterialUnavailable: no evidence was to be had.
            UsageError: not a URL of a service.
        """
        authority = urlsplit(Transport(url).origin).netloc
        return cls(Transport(relay or url, timeout=timeout), policy, authority, clock, own or OwnMaterial())

    @property
    def result(self) -> AttestationResult:
        """Result of the newest verification."""
        return self._pin.result

    @property
    def bundle(self) -> VerifiedBundle:
        """What is pinned."""
        return self._pin

    def _verify(self) -> VerifiedBundle:
        nonce = os.urandom(_NONCE)
        data = fetch_bundle(self._transport, nonce)
        verified = verify_with(data, self._policy, self._own, clock=self._clock, nonce=nonce)
        verified.result.raise_for_verdict()
        self.verifications += 1
        return verified

    def renew(self) -> AttestationResult:
        """Verify the endpoint again, over a new nonce, and pin what it then has.

        Raises:
            Error: as :meth:`open`; the old pin is gone then, and the next request verifies first.
        """
        self._pin = self._verify()
        return self._pin.result

    def _config(self) -> keys.KeyConfig:
        """The key to seal to, out of the pinned list, after a look at the pin."""
        if self._clock().timestamp() > self._pin.statement.expiry:
            self.renew()
        pin = self._pin
        digest = hashlib.sha256(pin.key_configs).digest()
        if digest != pin.statement.key_configs_sha256:
            raise VerificationError(
                CheckResult(
                    Check.BINDING_KEY_CONFIG,
                    Status.FAIL,
                    pin.statement.key_configs_sha256,
                    digest,
                    message="the pinned keys are not those of the verified bundle",
                )
            )
        return keys.choose(keys.parse_key_configs(pin.key_configs))

    def send(self, encode: Callable[[datetime], bytes]) -> bytes:
        """Seal one Binary HTTP request to the pinned key and open its answer.

        A gateway that no longer has the key is verified anew, once, and the request is sealed in a new context.

        Args:
            encode: gives the request for a time; called again when the request is sealed again.

        Raises:
            VerificationError: the gateway has other keys, and the endpoint no longer is what the policy demands.
            MalformedEvidence: the answer is not one to this request.
            MaterialUnavailable: no answer, or a refusal.
        """
        for last in (False, True):
            sealed, opener = ohttp.encapsulate(self._config(), encode(self._clock()))
            reply = self._transport.post(GATEWAY_PATH, sealed, ohttp.REQUEST_TYPE, limit=_MAX_RESPONSE)
            if reply.status == 200 and reply.media_type == ohttp.RESPONSE_TYPE:
                return opener.open(reply.content)
            problem = _problem(reply)
            if problem == ohttp.DATE_PROBLEM:
                raise MaterialUnavailable(f"{self.url}: the clocks of this machine and of the service differ too much")
            if last or problem != ohttp.KEY_PROBLEM:
                # Whatever else stands in a reply without encryption comes from who knows whom: it is not shown.
                raise MaterialUnavailable(f"{self.url} refused the request (status {reply.status})")
            self.renew()
        raise AssertionError("unreachable")

    def chat(
        self,
        messages: Sequence[chat.Message],
        *,
        model: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        seed: int | None = None,
    ) -> chat.Answer:
        """Ask for a chat completion.

        Args:
            messages: the chat so far.
            model: alias of the model, or None for the service's only one.
            max_tokens: bound of the answer in tokens, or None for the service's.
            temperature: 0 for the likeliest answer, or None for the service's default.
            seed: makes the choice of tokens repeatable, or None.

        Raises:
            Error: as :meth:`send`.
        """
        options = {"model": model, "max_tokens": max_tokens, "temperature": temperature, "seed": seed}
        return chat.decode(self.send(lambda at: chat.encode(messages, at=at, authority=self._authority, **options)))

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _problem(reply: Reply) -> str | None:
    """The type of a problem document (RFC 9457), the one thing of it that is looked at."""
    if reply.media_type != "application/problem+json" or not 400 <= reply.status <= 499 or len(reply.content) > 4096:
        return None
    try:
        document = json.loads(reply.content)
    except (ValueError, RecursionError):
        return None
    kind = document.get("type") if isinstance(document, dict) else None
    return kind if isinstance(kind, str) else None
