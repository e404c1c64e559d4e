"""Evidence: formats only.  Bytes in, frozen values out; nothing here is verified."""
