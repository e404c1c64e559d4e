"""dokimos: verify, measure and talk to confidential inference services.

The sub-packages follow the roles of RATS (RFC 9334): ``evidence`` holds formats, ``endorsements`` vendor material,
``measurements`` reference values, ``verifier`` the verdicts, ``attest`` the attester, ``ohttp`` the wire, ``client``
the relying party and ``cvm_image`` what is attested.  Nothing is imported here: ``import dokimos`` costs nothing.
"""

__version__ = "0.1.0"
