"""What people see while p2psync works. ``observer.observing`` picks the display; only ``live`` and
what it draws with import rich.
"""
