"""An HTTP/1.1 client of our own for bulk bytes; see ``connection``."""
