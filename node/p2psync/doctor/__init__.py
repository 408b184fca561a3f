"""What keeps an archive from being reached: each way there is tried, and what helps is said."""
