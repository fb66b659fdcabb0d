//! Layer normalisation (Ba, Kiros and Hinton 2016): each row to mean zero and variance one, then gain and bias.

use nd_core::autograd::Accumulate;

use super::row_norm::{Backward, Center, Forward, scratch as row_scratch};
use crate::dispatch::{SimdLevel, dispatch, instantiate, same_length};
use crate::elementwise::whole_rows;

instantiate! {
    /// `y[r, c] = (x[r, c] - mean[r]) rstd[r] gain[c] + bias[c]` with the row's own mean and
    /// `rstd = 1 / sqrt(population variance + eps)`, which are kept for the backward pass.
    ///
    /// # Panics
    /// The lengths do not fit, or the machine lacks the level.
    pub fn layer_norm_forward<R>(
        level: SimdLevel,
        eps: f64,
        x: &[R],
        gain: &[R],
        bias: &[R],
        y: &mut [R],
        mean: &mut [R],
        rstd: &mut [R],
    )
    {
        whole_rows("x", x.len(), "gain", gain.len());
        same_length("gain", gain.len(), "bias", bias.len());
        same_length("x", x.len(), "y", y.len());
        let rows = x.len() / gain.len().max(1);
        same_length("mean", mean.len(), "rows", rows);
        same_length("rstd", rstd.len(), "rows", rows);
    }
    then {
        if !gain.is_empty() {
            let bias = Some(bias);
            dispatch(level, Forward { center: Center::Mean, eps, x, gain, bias, y, mean, rstd });
        }
    }
}

/// The elements of scratch memory that [`layer_norm_backward`] needs.
#[must_use]
pub fn layer_norm_scratch(rows: usize, cols: usize) -> usize {
    row_scratch(rows, cols)
}

instantiate! {
    /// The gradients of [`layer_norm_forward`].
    ///
    /// With `g = dy gain`: `dx (+)= rstd (g - mean(g) - x_hat mean(g x_hat))` per row; `dgain (+)= sum dy x_hat`,
    /// `dbias (+)= sum dy` over rows, in fixed blocks. The bits do not depend on `parallel`.
    ///
    /// # Panics
    /// The lengths do not fit, or the machine lacks the level.
    pub fn layer_norm_backward<R>(
        level: SimdLevel,
        parallel: bool,
        x: &[R],
        gain: &[R],
        mean: &[R],
        rstd: &[R],
        dy: &[R],
        dx: Option<(&mut [R], Accumulate)>,
        dgain: Option<(&mut [R], Accumulate)>,
        dbias: Option<(&mut [R], Accumulate)>,
        scratch: &mut [R],
    )
    {}
    then {
        let center = Center::Mean;
        let pass = Backward { center, x, gain, mean, rstd, dy, dx, dgain, dbias, scratch };
        pass.check();
        pass.run(level, parallel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::SimdReal;
    use crate::reference::norm::row_norm;
    use crate::testing::{Noise, assert_all_close, poisoned, to_f64};

    fn agrees<R: SimdReal>(tolerance: f64) {
        let mut noise = Noise::new(10);
        for level in nd_testing::levels() {
            for cols in (1..36).chain([64, 65, 130]) {
                for rows in [0, 1, 3, if cols == 5 { 2100 } else { 40 }] {
                    let what = format!("{level} [{rows}, {cols}]");
                    let x: Vec<R> = noise.vec(rows * cols, 3.0);
                    let gain: Vec<R> = noise.vec(cols, 1.0);
                    let bias: Vec<R> = noise.vec(cols, 1.0);
                    let dy: Vec<R> = noise.vec(rows * cols, 1.0);
                    let eps = 1e-2;
                    let exact = row_norm(
                        eps,
                        true,
                        &to_f64(&x),
                        &to_f64(&gain),
                        &to_f64(&bias),
                        &to_f64(&dy),
                    );
                    let mut y = poisoned(rows * cols);
                    let (mut mean, mut rstd) = (poisoned(rows), poisoned(rows));
                    layer_norm_forward(level, eps, &x, &gain, &bias, &mut y, &mut mean, &mut rstd);
                    assert_all_close(&y, &exact.y, 50.0 * tolerance, &what);
                    let mut scratch = poisoned(layer_norm_scratch(rows, cols));
                    let mut passes = Vec::new();
                    for parallel in [false, true] {
                        let mut dx = poisoned(rows * cols);
                        let (mut dgain, mut dbias) = (poisoned(cols), poisoned(cols));
                        layer_norm_backward(
                            level,
                            parallel,
                            &x,
                            &gain,
                            &mean,
                            &rstd,
                            &dy,
                            Some((&mut dx, Accumulate::Write)),
                            Some((&mut dgain, Accumulate::Write)),
                            Some((&mut dbias, Accumulate::Write)),
                            &mut scratch,
                        );
                        let bound = 200.0 * tolerance * (1.0 + rows as f64).sqrt();
                        assert_all_close(&dx, &exact.dx, 1e3 * tolerance, &what);
                        assert_all_close(&dgain, &exact.dgain, bound, &what);
                        assert_all_close(&dbias, &exact.dbias, bound, &what);
                        passes.push((dx, dgain, dbias));
                    }
                    assert!(passes[0] == passes[1], "{what}: threads change bits");
                    let mut dx = vec![R::ONE; rows * cols];
                    layer_norm_backward(
                        level,
                        false,
                        &x,
                        &gain,
                        &mean,
                        &rstd,
                        &dy,
                        Some((&mut dx, Accumulate::Add)),
                        None,
                        None,
                        &mut scratch,
                    );
                    let added: Vec<f64> = exact.dx.iter().map(|dx| dx + 1.0).collect();
                    assert_all_close(&dx, &added, 1e3 * tolerance, &what);
                }
            }
        }
    }

    #[test]
    fn f32_agrees_with_the_reference() {
        agrees::<f32>(1e-7);
    }

    #[test]
    fn f64_agrees_with_the_reference() {
        agrees::<f64>(2e-16);
    }

    #[test]
    fn nan_stays_in_its_row() {
        for level in nd_testing::levels() {
            let mut x = vec![0.5f32; 3 * 20];
            x[25] = f32::NAN;
            let (mut y, mut mean, mut rstd) = (vec![0.0; 60], vec![0.0; 3], vec![0.0; 3]);
            let gain = [1.0; 20];
            layer_norm_forward(level, 1e-5, &x, &gain, &gain, &mut y, &mut mean, &mut rstd);
            assert!(y[20..40].iter().all(|y| y.is_nan()));
            assert!(y[..20].iter().chain(&y[40..]).all(|y| y.is_finite()));
        }
    }
}
