"""Historical bugs of hypervisors, as small changes of the specification that the theorems and the reference expose."""
