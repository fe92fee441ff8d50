"""`make bench-weights`: weights to several hosts by the relay, against one copy, rsync host by host, and BitTorrent."""
