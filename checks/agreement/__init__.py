"""Compares the two back ends: random states go through symbolic terms and through the reference."""
