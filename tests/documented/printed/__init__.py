"""What a page says that the tool prints: each ```text block has the name of a scenario, which has it printed."""
