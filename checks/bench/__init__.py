"""How fast the engines are: the same machine code on each of them, side by side."""
