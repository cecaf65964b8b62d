mod keeping;
mod model;
mod moving;
mod properties;
mod script;
mod starting;
mod vectors;
