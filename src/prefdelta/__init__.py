"""Many weak preference signals in, one stronger model out."""
