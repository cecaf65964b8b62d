mod keeping;
mod moving;
mod properties;
mod script;
mod starting;
mod vectors;
