"""What an operator sees: tables and lines over results."""
