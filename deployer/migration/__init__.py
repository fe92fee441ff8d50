"""A migration from a server that was started by hand to SGLang: its steps, its state, and the walk through them."""
