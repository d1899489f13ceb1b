"""From a trained run to use: what reads run folders and does something with the model in them."""
