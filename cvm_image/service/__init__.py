"""The inference service that runs inside the confidential VM."""
