"""Trap completeness: what an instruction does without a VM exit stays inside the guest's machine."""
