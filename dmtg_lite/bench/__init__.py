"""What a training step costs on this machine, beside the plain formulation of the same step."""
