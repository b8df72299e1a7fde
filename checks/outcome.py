"""What modules that replay cases say of one that is a witness: `outcome(case, model) -> str`, in a witness's words."""

EXCLUDED = "does what the theorem excludes"
"""The reference does what no state should."""

OF_AN_ANSWER = "shows the answer"
"""What a case of a question that is answered yes has to do."""
