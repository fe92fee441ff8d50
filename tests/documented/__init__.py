"""The commands of pages, run against the lab: what they print there is what the pages say that they print."""
