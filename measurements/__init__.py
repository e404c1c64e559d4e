"""Reference values: what a platform must measure for given inputs."""
