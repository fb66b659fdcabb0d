//! What the models of this crate are to `nd_parallel`: they predict, are fitted, scored and tuned by its parallel calls.
//!
//! | trait | type | sample |
//! |---|---|---|
//! | `Predict<Vec<f32>, Vec<f32>>` | [`Fitted`](crate::Fitted) | the past of one series; gives `[h, Q]` |
//! | `Predict<Panel, Forecast>` | `Fitted` | a panel; gives its whole forecast |
//! | `PredictUncertain`, `Draw` | `Fitted` | the past of one series: quantiles of a quantile loss, or Monte Carlo dropout |
//! | `Fit<Panel>` | [`Forecaster`](crate::Forecaster) | time steps of a panel; the score is the mean absolute error |
//! | `Tune<ParamPoint>`, `Tune<ForecasterConfig>` | `Forecaster` | settings by name, or all of them |
//!
//! ```
//! use nd_data::datasets::air_passengers;
//! use nd_models::Forecaster;
//! use nd_parallel::{ParallelConfig, ParamGrid, parallel_batch_inference, parallel_grid_search};
//!
//! let panel = air_passengers::<f32>()?;
//! let mut forecaster = Forecaster::new("NLinear", 24, 12)?;
//! forecaster.config_mut().train.max_steps = 30;
//! let config = ParallelConfig::default();
//!
//! let param_grid = ParamGrid::new().axis("learning_rate", [1e-5, 1e-1]);
//! let search = parallel_grid_search(&forecaster, &panel, &param_grid, &config)?;
//! let best = search.best().expect("a point that could be trained");
//! assert_eq!(best.params.to_string(), "learning_rate = 0.1");
//!
//! let fitted = forecaster.fit(&panel)?;
//! let data = vec![panel.series_y(0).to_vec(), panel.series_y(0)[..60].to_vec()];
//! let predictions: Vec<Vec<f32>> = parallel_batch_inference(&fitted, &data, &config)?;
//! assert_eq!(predictions[0], fitted.predict(&panel)?.column(0, 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod fit;
mod histories;
mod predict;
mod tune;
