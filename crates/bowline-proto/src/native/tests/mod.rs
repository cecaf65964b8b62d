mod keeping;
mod model;
mod moving;
mod properties;
mod refused;
mod script;
mod starting;
mod vectors;
