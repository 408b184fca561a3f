"""The files of a tree, published or fetched: the only room that opens, lists, reads or changes them."""
