"""What is to change in DEST: values that are counted and carried out."""
