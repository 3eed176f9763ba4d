"""The order: leader slots and their verdicts, commits in sequence, and certificates over what was executed."""
