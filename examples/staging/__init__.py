"""An image-staging service: uploads shared by every picture that is made of them."""
