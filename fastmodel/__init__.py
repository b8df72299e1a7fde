"""The fast model: the same machine, compiled to native code; it exits to the reference for what it does not know."""
