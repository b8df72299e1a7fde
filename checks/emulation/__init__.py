"""Faithful emulation: what the VMM does at an exit is what the bare machine does, up to declared differences."""
