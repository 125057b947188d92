"""What the records say: the results table, comparisons, and checks of every figure."""
