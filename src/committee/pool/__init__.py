"""Models aligned on the same samples, and what a committee of them scores and costs."""
