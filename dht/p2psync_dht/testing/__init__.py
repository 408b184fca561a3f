"""Networks to test against: on real sockets (`loopback`), and on a virtual clock without any (`virtual`)."""
