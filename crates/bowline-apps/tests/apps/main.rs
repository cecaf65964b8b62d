//! The apps on a real server, with real clients. Tests named `rNN_…` are the scenarios of `docs/scenarios.md`.

mod mqtt;
