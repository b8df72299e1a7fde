"""The trap matrix: what makes each instruction exit, what virtualizes it, and which policies its theorems need."""
