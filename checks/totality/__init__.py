"""Totality: every VM exit that a guest can cause is handled, and handling it concerns that guest alone."""
