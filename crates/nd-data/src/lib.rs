//! Time-series panels, calendars, windows, scalers and forecast metrics.
