"""Ranges of activations, from some of the network's inputs."""
