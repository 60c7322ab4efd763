"""`make bench`: what a request costs, beside the budgets. It reports and never fails for a number."""
