"""Client kits on the controller: what hosts have rendered for the clients of their services, kept in a folder."""
