"""An edited base, and what is asked of it: answers, probabilities of answers, states."""
