"""HPKE (RFC 9180), Binary HTTP (RFC 9292), Oblivious HTTP (RFC 9458) and the relay."""
