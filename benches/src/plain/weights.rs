//! Weights by name in one vector, and Adam over it.

use std::sync::Arc;

use nd_core::autograd::{ParamId, ParamLayout, Params};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2};

use super::matrix;

/// Values for every parameter of a network: its weights, or their gradients.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    layout: Arc<ParamLayout>,
    flat: Vec<f32>,
}

impl Weights {
    /// The weights that the library begins with.
    pub(super) fn initial(layout: &Arc<ParamLayout>, seed: u64) -> Self {
        Self {
            layout: Arc::clone(layout),
            flat: Params::<f32>::init(layout, seed).flat().to_vec(),
        }
    }

    pub(super) fn zeros(&self) -> Self {
        Self {
            layout: Arc::clone(&self.layout),
            flat: vec![0.0; self.flat.len()],
        }
    }

    fn id(&self, name: &str) -> ParamId {
        let found = self.layout.find(name);
        found.unwrap_or_else(|| panic!("the network has no parameter {name}"))
    }

    /// A parameter `[rows, cols]`.
    pub(super) fn matrix(&self, name: &str) -> ArrayView2<'_, f32> {
        let id = self.id(name);
        let shape = &self.layout.entry(id).shape;
        matrix(&self.flat[self.layout.range(id)], shape[0], shape[1])
    }

    /// A parameter `[len]`.
    pub(super) fn vector(&self, name: &str) -> ArrayView1<'_, f32> {
        ArrayView1::from(&self.flat[self.layout.range(self.id(name))])
    }

    /// Replaces a matrix.
    pub(super) fn put_matrix(&mut self, name: &str, values: &Array2<f32>) {
        let range = self.layout.range(self.id(name));
        for (slot, &value) in self.flat[range].iter_mut().zip(values) {
            *slot = value;
        }
    }

    /// Replaces a vector.
    pub(super) fn put_vector(&mut self, name: &str, values: &Array1<f32>) {
        let range = self.layout.range(self.id(name));
        for (slot, &value) in self.flat[range].iter_mut().zip(values) {
            *slot = value;
        }
    }

    pub(super) fn flat(&self) -> &[f32] {
        &self.flat
    }

    pub(super) fn flat_mut(&mut self) -> &mut [f32] {
        &mut self.flat
    }
}

/// Adam with PyTorch's defaults (Kingma and Ba, 2015).
#[derive(Clone, Debug)]
pub(super) struct Adam {
    mean: Vec<f32>,
    square: Vec<f32>,
    steps: u32,
}

impl Adam {
    pub(super) fn new(len: usize) -> Self {
        Self {
            mean: vec![0.0; len],
            square: vec![0.0; len],
            steps: 0,
        }
    }

    /// Steps taken so far.
    pub(super) fn steps(&self) -> u32 {
        self.steps
    }

    pub(super) fn step(&mut self, lr: f32, gradients: &[f32], weights: &mut [f32]) {
        const BETA1: f32 = 0.9;
        const BETA2: f32 = 0.999;
        const EPS: f32 = 1e-8;
        self.steps += 1;
        let t = self.steps as i32;
        let step = lr / (1.0 - BETA1.powi(t));
        let root = (1.0 - BETA2.powi(t)).sqrt();
        let moments = self.mean.iter_mut().zip(&mut self.square);
        for ((w, &g), (m, v)) in weights.iter_mut().zip(gradients).zip(moments) {
            *m = BETA1 * *m + (1.0 - BETA1) * g;
            *v = BETA2 * *v + (1.0 - BETA2) * g * g;
            *w -= step * *m / (v.sqrt() / root + EPS);
        }
    }
}
