"""What people see while p2psync works. ``make_observer`` picks the display; nothing else imports rich."""
