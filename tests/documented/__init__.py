"""The commands of docs/commands.md, run against the lab: what they print there is what they printed."""
