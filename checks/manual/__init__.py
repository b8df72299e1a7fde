"""What the manual says of functions that everything else in the proofs relies on."""
