"""Standard errors, confidence intervals and paired tests."""
