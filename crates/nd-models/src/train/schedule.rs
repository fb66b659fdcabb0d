//! The learning rate as a function of the step.

use super::config::TrainConfig;

/// The learning rate of a step, counted from 0.
///
/// With `d` decays over `n` steps it is halved after every `max(n / d, 1)` steps (PyTorch's `StepLR` with gamma 0.5, as
/// NeuralForecast sets it up); without decays it stays.
#[must_use]
pub fn learning_rate(config: &TrainConfig, step: u64) -> f64 {
    if config.num_lr_decays == 0 {
        return config.learning_rate;
    }
    let interval = (config.max_steps / config.num_lr_decays).max(1);
    let halvings = i32::try_from(step / interval).unwrap_or(i32::MAX);
    config.learning_rate * 0.5f64.powi(halvings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_decays_of_a_hundred_steps_come_at_33_66_and_99() {
        let config = TrainConfig {
            max_steps: 100,
            num_lr_decays: 3,
            ..TrainConfig::default()
        };
        let rates: Vec<f64> = (0..100).map(|step| learning_rate(&config, step)).collect();
        let changes: Vec<usize> = (1..100)
            .filter(|&step| rates[step] != rates[step - 1])
            .collect();
        assert_eq!(changes, [33, 66, 99]);
        assert_eq!(rates[99], 1e-3 / 8.0);
        assert_eq!(learning_rate(&TrainConfig::default(), 999), 1e-3);
    }

    #[test]
    fn more_decays_than_steps_halve_at_every_step() {
        let config = TrainConfig {
            max_steps: 2,
            num_lr_decays: 5,
            ..TrainConfig::default()
        };
        assert_eq!(learning_rate(&config, 1), 0.5e-3);
    }
}
