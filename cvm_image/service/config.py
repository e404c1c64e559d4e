"""The configuration of the service, in a form that can be hashed into the binding statement."""

from __future__ import annotations

import hashlib
from dataclasses import asdict

from ... import __version__
from ...ohttp import keys
from .engine.base import EngineInfo
from .gateway import GatewayLimits


def runtime_config(info: EngineInfo, limits: GatewayLimits, *, gpus: int = 0) -> bytes:
    """Everything that decides how requests are treated, in deterministic CBOR: engine, model, limits, suites, GPUs.

    A policy can name its SHA-256; a service with another model or other limits then has another.

    Args:
        info: the engine.
        limits: bounds of the gateway.
        gpus: how many GPUs the service waits for; nothing stands there for none.
    """
    import cbor2  # noqa: PLC0415 - only the service pays

    suites = [[int(suite.kem), int(suite.kdf), int(suite.aead)] for suite in keys.PREFERENCE]
    document: dict[str, object] = {
        "schema": "dokimos.runtime-config/v1",
        "dokimos": __version__,
        "engine": asdict(info),
        "limits": asdict(limits),
        "suites": suites,
    }
    if gpus:
        document["gpus"] = gpus
    return cbor2.dumps(document, canonical=True)


def runtime_config_sha256(info: EngineInfo, limits: GatewayLimits, *, gpus: int = 0) -> bytes:
    """SHA-256 of it, as the statement carries it."""
    return hashlib.sha256(runtime_config(info, limits, gpus=gpus)).digest()
