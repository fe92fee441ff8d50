"""Lab hosts: Debian systems with systemd, sshd, an address and a disk of their own, on one Linux machine."""
