"""What is measured: one file a kind of work. `rows` lists them."""
