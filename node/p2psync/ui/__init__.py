"""What people see while p2psync works. ``observer.observing`` picks the display; only ``live`` imports
rich.
"""
