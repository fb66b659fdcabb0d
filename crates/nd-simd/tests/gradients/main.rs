//! Gradients of every op against differences, in one program, which is linked once for all files.

mod gradcheck_linear;
mod gradcheck_matmul;
mod gradcheck_ops;
mod gradcheck_recurrent;
mod gradcheck_temporal;
