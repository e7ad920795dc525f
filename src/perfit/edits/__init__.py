"""What is learnt, and where it acts: the shift, its positions, and the plan of one batch."""
