//! Names that configurations give to kernels: those of PyTorch and NeuralForecast.

use nd_simd::activations::Activation;
use nd_simd::interpolate::Interpolation;
use serde::{Deserialize, Serialize};

/// An activation function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ActivationName {
    /// `max(x, 0)`
    #[default]
    ReLU,
    /// `x` where positive, `0.01 x` elsewhere.
    LeakyReLU,
    /// `x` where positive, `e^x - 1` elsewhere.
    ELU,
    /// `x Phi(x)` with the normal distribution function.
    GELU,
    /// `x / (1 + e^-x)`
    SiLU,
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// `tanh x`
    Tanh,
    /// `log(1 + e^x)`
    Softplus,
}

impl From<ActivationName> for Activation {
    fn from(name: ActivationName) -> Self {
        match name {
            ActivationName::ReLU => Self::Relu,
            ActivationName::LeakyReLU => Self::LeakyRelu { slope: 0.01 },
            ActivationName::ELU => Self::Elu { alpha: 1.0 },
            ActivationName::GELU => Self::Gelu,
            ActivationName::SiLU => Self::Silu,
            ActivationName::Sigmoid => Self::Sigmoid,
            ActivationName::Tanh => Self::Tanh,
            ActivationName::Softplus => Self::Softplus,
        }
    }
}

/// How the steps between knots are filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InterpolationMode {
    /// Straight lines between knots, flat beyond the outer ones.
    #[default]
    Linear,
    /// The knot to the left.
    Nearest,
    /// A cubic through four knots.
    Cubic,
}

impl From<InterpolationMode> for Interpolation {
    fn from(mode: InterpolationMode) -> Self {
        match mode {
            InterpolationMode::Linear => Self::Linear,
            InterpolationMode::Nearest => Self::Nearest,
            InterpolationMode::Cubic => Self::Cubic,
        }
    }
}

/// How the values of a pooling window become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PoolingMode {
    /// The largest.
    #[default]
    #[serde(rename = "MaxPool1d")]
    Max,
    /// The mean.
    #[serde(rename = "AvgPool1d")]
    Average,
}
