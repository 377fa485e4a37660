"""Export: a cascade in a form that leaves this library, or Python, behind."""
