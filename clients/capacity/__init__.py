"""Whether cameras fit on a card, and what would have to change: arithmetic on a GPU's data sheet. Pure."""
