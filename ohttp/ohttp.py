"""Oblivious HTTP requests and responses (RFC 9458, section 4), without any I/O.

Each step consumes the one before, so that no context can seal or open twice: ``encapsulate`` gives the bytes and a
:class:`ResponseOpener` for exactly one answer; :meth:`Gateway.open` gives an :class:`OpenedRequest` that seals exactly
one.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag

from ..errors import MalformedEvidence, UnsupportedEvidence, UsageError
from .hpke import MAX_MESSAGE, NONCE_SIZE, Aead, Suite, setup_sender
from .kdf import Kdf
from .kem import InMemory, Kem, OpenError
from .keys import encode_key_configs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

    from .hpke import RecipientContext, SenderContext
    from .keys import KeyConfig, PrivateKey

REQUEST_TYPE: Final = "message/ohttp-req"
"""Media type of an encapsulated request."""
RESPONSE_TYPE: Final = "message/ohttp-res"
"""Media type of an encapsulated response."""
KEY_PROBLEM: Final = "https://iana.org/assignments/http-problem-types#ohttp-key"
"""Problem type (RFC 9457) with which a gateway answers :class:`UnknownKey` (RFC 9458, section 5.3)."""
DATE_PROBLEM: Final = "https://iana.org/assignments/http-problem-types#date"
"""Problem type with which a gateway answers a Date out of its window (RFC 9458, section 6.5.2)."""

_HEADER = struct.Struct(">BHHH")
_REQUEST_LABEL = b"message/bhttp request\x00"
_RESPONSE_LABEL = b"message/bhttp response"


class UnknownKey(MalformedEvidence):
    """A request to a key id, or with a suite, that this gateway does not have; everything in it is public.

    The gateway answers it with the problem type ``KEY_PROBLEM``; the client fetches the configurations anew, once.
    """


def _response_cipher(
    context: SenderContext | RecipientContext, suite: Suite, enc: bytes, response_nonce: bytes
) -> tuple[AESGCM | ChaCha20Poly1305, bytes]:
    """Key and nonce of the response: plain HKDF, not the labeled one (RFC 9458, section 4.4)."""
    secret = context.export(_RESPONSE_LABEL, len(response_nonce))
    prk = suite.kdf.extract(enc + response_nonce, secret)
    key = suite.kdf.expand(prk, b"key", suite.aead.key_size)
    return suite.aead.cipher(key), suite.kdf.expand(prk, b"nonce", NONCE_SIZE)


def _response_nonce_size(suite: Suite) -> int:
    return max(NONCE_SIZE, suite.aead.key_size)


class ResponseOpener(InMemory):
    """Opens the one answer to one request."""

    __slots__ = ("_context", "_enc", "_suite")

    def __init__(self, context: SenderContext, suite: Suite, enc: bytes) -> None:
        self._context: SenderContext | None = context
        self._suite = suite
        self._enc = enc

    def open(self, data: bytes) -> bytes:
        """The plaintext of an encapsulated response (RFC 9458, section 4.4).

        Raises:
            OpenError: not the answer to this request.
            UsageError: the second call, whatever became of the first.
        """
        context, self._context = self._context, None
        if context is None:
            raise UsageError("a response opener opens one response only")
        size = _response_nonce_size(self._suite)
        if len(data) < size or len(data) > MAX_MESSAGE:
            raise OpenError
        cipher, nonce = _response_cipher(context, self._suite, self._enc, data[:size])
        try:
            return cipher.decrypt(nonce, data[size:], None)
        except InvalidTag:
            raise OpenError from None


def encapsulate(config: KeyConfig, request: bytes, *, _ephemeral: bytes | None = None) -> tuple[bytes, ResponseOpener]:
    """Seal one request to the gateway's key (RFC 9458, section 4.3), with a context of its own.

    Args:
        config: the gateway's key configuration; the suite is the fixed one for its KEM.
        request: a request in Binary HTTP.
        _ephemeral: the ephemeral private key of a test vector; never given outside of tests.

    Returns:
        The encapsulated request, and what opens its answer.

    Raises:
        UnsupportedEvidence: the configuration offers no suite that dokimos uses.
        MalformedEvidence: its public key is unusable.
        UsageError: a request that is too long.
    """
    suite = config.suite
    if suite is None:
        raise UnsupportedEvidence("the key configuration offers no suite that dokimos uses")
    header = _HEADER.pack(config.key_id, suite.kem, suite.kdf, suite.aead)
    enc, context = setup_sender(suite, config.public_key, _REQUEST_LABEL + header, _ephemeral=_ephemeral)
    return b"".join((header, enc, context.seal(request))), ResponseOpener(context, suite, enc)


class OpenedRequest(InMemory):
    """A request that opened.

    Attributes:
        request: the plaintext, Binary HTTP.
        enc: the encapsulated key; a gateway remembers it to refuse a replay (RFC 9458, section 6.5.1).
        key_id: id of the key that opened it.
    """

    __slots__ = ("_context", "_suite", "enc", "key_id", "request")

    def __init__(self, context: RecipientContext, suite: Suite, request: bytes, enc: bytes, key_id: int) -> None:
        self._context: RecipientContext | None = context
        self._suite = suite
        self.request = request
        self.enc = enc
        self.key_id = key_id

    def seal(self, response: bytes, *, _nonce: bytes | None = None) -> bytes:
        """Seal the one answer to this request (RFC 9458, section 4.4).

        Args:
            response: a response in Binary HTTP.
            _nonce: the response nonce of a test vector; never given outside of tests.

        Raises:
            UsageError: the second call, or a response that is too long.
        """
        if len(response) > MAX_MESSAGE - 64:
            raise UsageError("too long to seal")
        context, self._context = self._context, None
        if context is None:
            raise UsageError("an opened request takes one response only")
        nonce = os.urandom(_response_nonce_size(self._suite)) if _nonce is None else _nonce
        cipher, aead_nonce = _response_cipher(context, self._suite, self.enc, nonce)
        return nonce + cipher.encrypt(aead_nonce, response, None)


class Gateway(InMemory):
    """The holder of private keys: opens requests to any of them.

    Args:
        keys: the keys, for example the present ones and those of the period before; their ids differ.

    Attributes:
        key_configs: the public configurations as ``application/ohttp-keys``, in the order given.

    Raises:
        UsageError: no keys, or two with one id.
    """

    __slots__ = ("_keys", "key_configs")

    def __init__(self, keys: Sequence[PrivateKey]) -> None:
        self.key_configs = encode_key_configs([key.config for key in keys])
        self._keys = {key.config.key_id: key for key in keys}

    def open(self, data: bytes) -> OpenedRequest:
        """Open one encapsulated request (RFC 9458, section 4.3).

        Raises:
            UnknownKey: addressed to a key or a suite that is not here.
            OpenError: anything else that keeps it from opening, all alike.
        """
        if not _HEADER.size <= len(data) <= MAX_MESSAGE:
            raise OpenError
        key_id, kem, kdf, aead = _HEADER.unpack_from(data)
        key = self._keys.get(key_id)
        if key is None or kem != key.config.kem or (kdf, aead) not in key.config.symmetric:
            raise UnknownKey("the request is addressed to a key configuration that this gateway does not have")
        suite = Suite(kem=Kem(kem), kdf=Kdf(kdf), aead=Aead(aead))
        end = _HEADER.size + suite.kem.enc_size
        enc = data[_HEADER.size : end]
        info = _REQUEST_LABEL + data[: _HEADER.size]
        context = key.open_context(suite, enc, info)
        return OpenedRequest(context, suite, context.open(data[end:]), enc, key_id)
