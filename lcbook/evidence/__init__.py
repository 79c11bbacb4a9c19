"""Evidence that is made anew: claims confirmed on other seeds, and repeated on other machines."""
