"""Oblivious HTTP: one exchange of 4 KiB each way, both sides together, beside pyca's one-shot HPKE in the same run."""

from __future__ import annotations

import os
import statistics
import time
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hpke as pyca
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519

from benchmarks.figure import Figure
from dokimos.ohttp.kem import Kem
from dokimos.ohttp.keys import generate_keys, parse_key_configs
from dokimos.ohttp.ohttp import Gateway, encapsulate

if TYPE_CHECKING:
    from collections.abc import Callable

GOAL_MS = 1.2
SIZE = 4096
ROUNDS = 300


def _medians(*works: Callable[[], None]) -> list[float]:
    """Median milliseconds of each, taken in turns so that all see the same machine."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(ROUNDS):
        for work, taken in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            taken.append((time.perf_counter() - start) * 1e3)
    return [statistics.median(taken) for taken in times]


def _yardstick(kem: Kem) -> Callable[[], None]:
    """Encrypt and decrypt 4 KiB twice with pyca's one-shot suite of the same algorithms."""
    plaintext = os.urandom(SIZE)
    x = x25519.X25519PrivateKey.generate()
    private: x25519.X25519PrivateKey | pyca.MLKEM768X25519PrivateKey
    if kem is Kem.X_WING:
        private = pyca.MLKEM768X25519PrivateKey(mlkem.MLKEM768PrivateKey.generate(), x)
        suite = pyca.Suite(pyca.KEM.MLKEM768_X25519, pyca.KDF.HKDF_SHA256, pyca.AEAD.AES_256_GCM)
    else:
        private = x
        suite = pyca.Suite(pyca.KEM.X25519, pyca.KDF.HKDF_SHA256, pyca.AEAD.AES_128_GCM)
    public = private.public_key()

    def work() -> None:
        for _ in range(2):
            assert suite.decrypt(suite.encrypt(plaintext, public, b"info"), private, b"info") == plaintext

    return work


def _exchange(kem: Kem) -> Callable[[], None]:
    gateway = Gateway(generate_keys())
    (config,) = (config for config in parse_key_configs(gateway.key_configs) if config.kem is kem)
    request, response = os.urandom(SIZE), os.urandom(SIZE)

    def work() -> None:
        sealed, opener = encapsulate(config, request)
        opened = gateway.open(sealed)
        assert opened.request == request
        assert opener.open(opened.seal(response)) == response

    return work


def figures() -> list[Figure]:
    """Measure; about a second."""
    found = []
    for kem in (Kem.X25519_HKDF_SHA256, Kem.X_WING):
        ours, theirs = _medians(_exchange(kem), _yardstick(kem))
        found.append(
            Figure(
                what=f"seal + open one 4 KiB OHTTP request and answer, both sides, {kem.name}",
                measured=f"{ours:.2f} ms",
                yardstick=f"pyca one-shot HPKE, encrypt + decrypt 4 KiB twice: {theirs:.2f} ms",
                ratio=ours / theirs,
                goal=f"<= {GOAL_MS} ms",
                met=ours <= GOAL_MS,
            )
        )
    return found


if __name__ == "__main__":
    for figure in figures():
        print(figure)
