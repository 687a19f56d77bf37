"""What administrators do: every act is allowed or refused, done in one transaction with its line in the audit."""
