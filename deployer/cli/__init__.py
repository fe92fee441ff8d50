"""`python -m deployer`: one file a group of commands."""
