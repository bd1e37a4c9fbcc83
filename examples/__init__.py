"""Applications on Calotype, each from the needs of a real one."""
