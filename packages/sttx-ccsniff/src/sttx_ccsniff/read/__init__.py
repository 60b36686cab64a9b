"""Reading: files and streams become lines, and lines go to the parser that recognises them."""
