"""Runs of playbooks: started, watched, folded into results, written down."""
