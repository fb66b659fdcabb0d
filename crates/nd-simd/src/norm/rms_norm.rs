//! RMS normalisation (Zhang and Sennrich 2019): each row over its root mean square, times a gain.

use nd_core::autograd::Accumulate;

use super::row_norm::{Backward, Center, Forward, scratch as row_scratch};
use crate::dispatch::{SimdLevel, dispatch, instantiate, same_length};
use crate::elementwise::whole_rows;

instantiate! {
    /// `y[r, c] = x[r, c] rstd[r] gain[c]` with `rstd = 1 / sqrt(mean(x^2) + eps)`, which is kept for the backward pass.
    ///
    /// # Panics
    /// The lengths do not fit, or the machine lacks the level.
    pub fn rms_norm_forward<R>(
        level: SimdLevel,
        eps: f64,
        x: &[R],
        gain: &[R],
        y: &mut [R],
        rstd: &mut [R],
    )
    {
        whole_rows("x", x.len(), "gain", gain.len());
        same_length("x", x.len(), "y", y.len());
        same_length("rstd", rstd.len(), "rows", x.len() / gain.len().max(1));
    }
    then {
        if !gain.is_empty() {
            let (center, bias) = (Center::Zero, None);
            dispatch(level, Forward { center, eps, x, gain, bias, y, mean: &mut [], rstd });
        }
    }
}

/// The elements of scratch memory that [`rms_norm_backward`] needs.
#[must_use]
pub fn rms_norm_scratch(rows: usize, cols: usize) -> usize {
    row_scratch(rows, cols)
}

instantiate! {
    /// The gradients of [`rms_norm_forward`]: with `g = dy gain`, `dx (+)= rstd (g - x_hat mean(g x_hat))` per row and
    /// `dgain (+)= sum dy x_hat` over rows, in fixed blocks. The bits do not depend on `parallel`.
    ///
    /// # Panics
    /// The lengths do not fit, or the machine lacks the level.
    pub fn rms_norm_backward<R>(
        level: SimdLevel,
        parallel: bool,
        x: &[R],
        gain: &[R],
        rstd: &[R],
        dy: &[R],
        dx: Option<(&mut [R], Accumulate)>,
        dgain: Option<(&mut [R], Accumulate)>,
        scratch: &mut [R],
    )
    {}
    then {
        let (center, mean, dbias) = (Center::Zero, &[][..], None);
        let pass = Backward { center, x, gain, mean, rstd, dy, dx, dgain, dbias, scratch };
        pass.check();
        pass.run(level, parallel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::norm::row_norm;
    use crate::testing::{Noise, assert_all_close, poisoned, to_f64};

    #[test]
    fn agrees_with_the_reference() {
        let mut noise = Noise::new(11);
        for level in nd_testing::levels() {
            for cols in (1..20).chain([33, 65]) {
                for rows in [0, 1, 7] {
                    let what = format!("{level} [{rows}, {cols}]");
                    let x: Vec<f32> = noise.vec(rows * cols, 3.0);
                    let gain: Vec<f32> = noise.vec(cols, 1.0);
                    let dy: Vec<f32> = noise.vec(rows * cols, 1.0);
                    let zero = vec![0.0; cols];
                    let (eps, x64) = (1e-2, to_f64(&x));
                    let exact = row_norm(eps, false, &x64, &to_f64(&gain), &zero, &to_f64(&dy));
                    let (mut y, mut rstd) = (poisoned(rows * cols), poisoned(rows));
                    rms_norm_forward(level, eps, &x, &gain, &mut y, &mut rstd);
                    assert_all_close(&y, &exact.y, 1e-5, &what);
                    let (mut dx, mut dgain) = (poisoned(rows * cols), vec![2.0f32; cols]);
                    let mut scratch = poisoned(rms_norm_scratch(rows, cols));
                    rms_norm_backward(
                        level,
                        true,
                        &x,
                        &gain,
                        &rstd,
                        &dy,
                        Some((&mut dx, Accumulate::Write)),
                        Some((&mut dgain, Accumulate::Add)),
                        &mut scratch,
                    );
                    assert_all_close(&dx, &exact.dx, 1e-4, &what);
                    let added: Vec<f64> = exact.dgain.iter().map(|dgain| dgain + 2.0).collect();
                    assert_all_close(&dgain, &added, 1e-4, &what);
                }
            }
        }
    }
}
