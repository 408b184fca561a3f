"""What tests of every kind share: waiting, addresses, descriptors, the event loop."""
