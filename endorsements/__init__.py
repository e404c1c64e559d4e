"""Endorsements: vendors' certificates and revocation lists, and the pinned trust anchors."""
