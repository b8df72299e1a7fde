"""The commands of `nonroot`, one module each: `add_arguments(parser)` and `run(args) -> int`."""
