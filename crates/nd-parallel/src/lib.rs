//! Data-parallel gradients with the same bits on any number of threads.
