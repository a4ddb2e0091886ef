"""The message: who sent it to whom, what its header says, and where its bytes lie while we have it."""
