//! Neural forecasting models and the loop that trains them.
