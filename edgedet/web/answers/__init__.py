"""How is a request answered? The site lets it in, and a table says which function answers its path."""
