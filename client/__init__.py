"""Relying party: fetch, verify, pin, seal, send, open."""
