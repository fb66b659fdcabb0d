//! Gradients against finite differences, in f64.

use std::sync::Arc;

use nd_core::SimdLevel;
use nd_core::autograd::{
    Backward, Init, NodeId, Op, ParamGrads, Params, ParamsBuilder, StepContext, Tape, Var,
};

use crate::cases::normals;

/// Half the step of the central difference (PyTorch's `gradcheck` takes the same).
const STEP: f64 = 1e-6;
/// What a gradient may differ by, absolutely (PyTorch: 1e-5).
const ABSOLUTE: f64 = 1e-6;
/// What a gradient may differ by, relatively (PyTorch: 1e-3).
const RELATIVE: f64 = 1e-5;

/// An input of a checked function.
#[derive(Clone, Debug)]
pub struct GradInput {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Vec<f64>,
    /// Whether it reaches the function as a parameter (its gradient is flat) or as a variable of the tape.
    pub is_param: bool,
}

impl GradInput {
    /// A variable of the tape with standard normal values.
    #[must_use]
    pub fn normal(seed: u64, shape: &[usize]) -> Self {
        let values = normals(seed, shape.iter().product());
        Self {
            shape: shape.to_vec(),
            values,
            is_param: false,
        }
    }

    /// A variable of the tape with given values.
    #[must_use]
    pub fn values(shape: &[usize], values: Vec<f64>) -> Self {
        Self {
            shape: shape.to_vec(),
            values,
            is_param: false,
        }
    }

    /// The same input as a parameter.
    #[must_use]
    pub fn param(mut self) -> Self {
        self.is_param = true;
        self
    }
}

/// Checks the gradients of `function` at `inputs` against central differences of a random combination of its outputs.
///
/// The function is checked as it is, where gradients of inputs are written, and added to itself, where the second
/// evaluation's gradients are added to the first's; at every SIMD level of the machine.
///
/// # Panics
/// A gradient differs by more than the tolerance, naming op, input and element.
#[track_caller]
pub fn gradcheck(
    name: &str,
    inputs: &[GradInput],
    function: impl for<'t> Fn(&'t Tape<f64>, &[Var<'t, f64>]) -> Var<'t, f64>,
) {
    for level in crate::levels() {
        gradcheck_at(level, name, inputs, &function);
        gradcheck_at(level, &format!("{name} + {name}"), inputs, &|tape, vars| {
            sum(function(tape, vars), function(tape, vars))
        });
    }
}

struct Sum {
    terms: [NodeId; 2],
}

fn sum<'t>(a: Var<'t, f64>, b: Var<'t, f64>) -> Var<'t, f64> {
    let tape = a.tape();
    let mut y = tape.scratch(a.shape().numel());
    for (y, (a, b)) in y.iter_mut().zip(a.value().iter().zip(b.value().iter())) {
        *y = a + b;
    }
    tape.record(a.shape(), y, &[a, b], || Sum {
        terms: [a.id(), b.id()],
    })
}

impl Op<f64> for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn backward(&self, step: &Backward<'_, f64>) {
        step.pass(self.terms[0]);
        step.pass(self.terms[1]);
    }
}

#[track_caller]
fn gradcheck_at(
    level: SimdLevel,
    name: &str,
    inputs: &[GradInput],
    function: &impl for<'t> Fn(&'t Tape<f64>, &[Var<'t, f64>]) -> Var<'t, f64>,
) {
    let mut tape = Tape::default();
    let run = |tape: &mut Tape<f64>, inputs: &[GradInput], backward: bool| {
        let mut b = ParamsBuilder::new();
        let ids: Vec<_> = inputs
            .iter()
            .enumerate()
            .map(|(i, input)| {
                let init = Init::Values(Arc::from(input.values.as_slice()));
                input
                    .is_param
                    .then(|| b.trainable(&i.to_string(), &input.shape[..], init))
            })
            .collect();
        let params = Arc::new(Params::<f64>::init(&b.build(), 0));
        let mut context = StepContext::new(Some(Arc::clone(&params)));
        context.options.simd = level;
        tape.begin(context);
        let vars: Vec<_> = inputs
            .iter()
            .zip(&ids)
            .map(|(input, id)| match id {
                Some(id) => tape.param(*id),
                None => {
                    let values = tape.pool().take_copy(&input.values);
                    tape.variable(&input.shape[..], values)
                }
            })
            .collect();
        let y = function(tape, &vars);
        let combination = normals::<f64>(99, y.shape().numel());
        let value: f64 = y.value().iter().zip(&combination).map(|(y, c)| y * c).sum();
        if !backward {
            return (value, Vec::new());
        }
        let (root, nodes) = (y.id(), vars.iter().map(|v| v.id()).collect::<Vec<_>>());
        let mut grads = ParamGrads::new(params.layout());
        let dy = tape.pool().take_copy(&combination);
        tape.backward(root, dy, Some(&mut grads));
        grads.finish();
        let gradients = inputs
            .iter()
            .zip(&ids)
            .zip(nodes)
            .map(|((input, id), node)| match id {
                Some(id) => grads.get(*id).to_vec(),
                None => tape
                    .gradient(node)
                    .map_or(vec![0.0; input.values.len()], |gradient| gradient.to_vec()),
            })
            .collect();
        (value, gradients)
    };
    let (_, gradients) = run(&mut tape, inputs, true);
    for (i, gradient) in gradients.iter().enumerate() {
        for (j, &found) in gradient.iter().enumerate() {
            let mut moved = inputs.to_vec();
            moved[i].values[j] += STEP;
            let above = run(&mut tape, &moved, false).0;
            moved[i].values[j] -= 2.0 * STEP;
            let below = run(&mut tape, &moved, false).0;
            let wanted = (above - below) / (2.0 * STEP);
            assert!(
                (found - wanted).abs() <= ABSOLUTE.max(RELATIVE * wanted.abs()),
                "{name} at {level}: the gradient of input {i}, element {j} is {found:e}, \
                 by finite differences {wanted:e}"
            );
        }
    }
}
