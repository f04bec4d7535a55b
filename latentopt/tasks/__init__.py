"""Tasks: what users come for, each as a problem."""
