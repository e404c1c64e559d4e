"""Intel's SGX root CA as trust anchor (RFC 5914: name and key).

Data only.  Source: Intel's provisioning certification service,
``certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA.cer``.
"""

from __future__ import annotations

ROOT_SHA256 = bytes.fromhex("44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3")
"""SHA-256 of the DER certificate."""
ROOT_SPKI_SHA256 = bytes.fromhex("a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e")
"""SHA-256 of its DER SubjectPublicKeyInfo."""
