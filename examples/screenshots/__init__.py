"""A screenshot archive: search results with the pictures of the pages that showed them."""
