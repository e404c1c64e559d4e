"""What is attested: the image and the inference service in it."""
