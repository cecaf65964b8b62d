//! The built-in apps from outside.

mod record;
