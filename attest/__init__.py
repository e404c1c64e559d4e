"""Attester: what runs in the guest (or simulates it) to produce evidence."""
