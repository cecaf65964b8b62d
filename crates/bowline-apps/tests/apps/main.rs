//! The built-in apps from outside. Tests named `rNN_…` are the scenarios of `docs/scenarios.md`.

mod mqtt;
mod record;
