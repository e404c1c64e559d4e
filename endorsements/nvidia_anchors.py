"""NVIDIA's roots as trust anchors: of devices, of reference integrity manifests, and of its attestation service.

Data only.  The two roots end every chain that NVIDIA's open attestation tools carry; of the service's chain, whose root
NVIDIA publishes nowhere, the intermediates are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

DEVICE_ROOT_CN = "NVIDIA Device Identity CA"
DEVICE_ROOT_SHA256 = bytes.fromhex("102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48")
"""SHA-256 of the DER certificate at the end of every GPU's and switch's chain."""
DEVICE_ROOT_SPKI_SHA256 = bytes.fromhex("a90c4eb5acfd3e3d03a25db6a26b84f720ad0503196c627c21ddd48dd85b06a4")
"""SHA-256 of its DER SubjectPublicKeyInfo."""
RIM_ROOT_CN = "NVIDIA CoRIM signing Root CA"
RIM_ROOT_SHA256 = bytes.fromhex("12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1")
"""SHA-256 of the DER certificate at the end of every RIM's chain."""
RIM_ROOT_SPKI_SHA256 = bytes.fromhex("dec1dc316477aa851eebdf51327ae9f864bc8d89254657ed1e7eb9168af1e1a3")
"""SHA-256 of its DER SubjectPublicKeyInfo."""
NRAS_ISSUER = "https://nras.attestation.nvidia.com"
"""Issuer of the attestation service's tokens; that of its staging service is another."""
NRAS_INTERMEDIATES: Mapping[bytes, tuple[str, datetime]] = {
    bytes.fromhex("47277eed6a87671def0ec16c31bcf36e97893f4a492e87a321b1e13d46f91302"): (
        "NVIDIA Attestation Service GPU Intermediate 002",
        datetime(2025, 12, 14, tzinfo=UTC),
    ),
    bytes.fromhex("bb2df2da5accb4c424c9ba3c968daefa4838f77b2d278bc1aa305d051df0c122"): (
        "NVIDIA Attestation Service GPU Intermediate 003",
        datetime(2029, 12, 8, tzinfo=UTC),
    ),
    bytes.fromhex("fd32837f954e2c45db073105166dfe6985ae0480bb113fba63b091a75affe896"): (
        "NVIDIA Attestation Service GPU Intermediate 004",
        datetime(2029, 12, 8, tzinfo=UTC),
    ),
}
"""Name and end of validity of the service's intermediates, by SHA-256 of their DER SubjectPublicKeyInfo.

The end is pinned too: nobody can verify the signature of an intermediate's certificate, so what comes with a key could
say any other.
"""
