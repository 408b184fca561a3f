"""What is to change in DEST, and why: values that can be printed, counted or carried out."""
