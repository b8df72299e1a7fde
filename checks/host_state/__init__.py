"""Host-state safety: what the VMM builds passes VM entry, and no register is forgotten when guests are switched."""
