"""What a command raises where the user's input cannot be used."""


class UsageError(Exception):
    """A message for the user: printed in one line, exit status 2."""
