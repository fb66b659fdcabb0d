//! Tensors, a recycling memory pool, counter-based random numbers, a thread budget and an autograd tape.
