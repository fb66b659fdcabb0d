//! The benchmark suites and the main job.
