//! Bowline's built-in apps, which do on the server what boards cannot. Each is an
//! [`App`](bowline_server::App); `bowline serve` registers them as the configuration says.

mod echo;
pub mod mqtt;
pub mod record;

pub use echo::Echo;
pub use mqtt::Mqtt;
