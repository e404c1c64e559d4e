"""Intel's SGX root CA as trust anchor (RFC 5914: name and key), the root of TDX as well.

Data only.  Source: Intel's provisioning certification service,
``certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA.cer``.
"""

from __future__ import annotations

from datetime import UTC, datetime

ROOT_SHA256 = bytes.fromhex("44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3")
"""SHA-256 of the DER certificate."""
ROOT_SPKI_SHA256 = bytes.fromhex("a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e")
"""SHA-256 of its DER SubjectPublicKeyInfo."""
ROOT_POINT = bytes.fromhex(
    "0ba9c4c0c0c86193a3fe23d6b02cda10a8bbd4e88e48b4458561a36e705525f567918e2edc88e40d860bd0cc4ee26aacc988e505a953558c"
    "453f6b0904ae7394"
)
"""x and y of its P-256 key."""
ROOT_SUBJECT = (
    ("2.5.4.10", "Intel Corporation"),
    ("2.5.4.3", "Intel SGX Root CA"),
    ("2.5.4.6", "US"),
    ("2.5.4.7", "Santa Clara"),
    ("2.5.4.8", "CA"),
)
"""Its name, in the form of :func:`.leaf.parse_name`."""
ROOT_NOT_BEFORE = datetime(2018, 5, 21, 10, 45, 10, tzinfo=UTC)
"""Start of its validity."""
ROOT_NOT_AFTER = datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)
"""End of its validity."""
