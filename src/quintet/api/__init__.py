"""What a program uses: a model on whatever holds items, and train, resume, distil and load."""
